"""A piece of a random network, as the strategies draw it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from torch import Tensor, nn

__all__ = ["WIDTHS", "Block"]

WIDTHS = st.integers(2, 12)


class Block(nn.Module):
    """A piece of a network with ``n_out`` output channels, and the text that makes it again."""

    def __init__(self, text: str, n_out: int, forward: Callable[[Tensor], Tensor], **parts) -> None:
        super().__init__()
        self.text, self.n_out, self.function = text, n_out, forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
