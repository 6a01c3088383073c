"""A faster trace for models whose code never asks for a size: with one batch size for all.

``torch.export`` spends much of its time on the arithmetic of a symbolic batch. A model that never
reads a size cannot compute with one, nor branch on it, so a trace at any batch size is the trace at
every batch size. Most CNNs are of this kind; attention mostly is not.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from nnslim.network.graph import BATCH

if TYPE_CHECKING:
    from types import FrameType

    from torch.export import ExportedProgram

__all__ = ["sizeless_program"]

# Anything larger, other than the batch itself, may have been computed from the batch.
_LARGEST_SIZE = BATCH // 16


def sizeless_program(module: nn.Module, examples: tuple[Tensor, ...]) -> ExportedProgram | None:
    """Export a model at the batch size ``BATCH``, if that stands for every batch size.

    Args:
        module: In eval mode.
        examples: One tensor per input, ``(N, ...)``.

    Returns:
        The program, or None where the model's code asks for a size, where a size derived from the
        batch appears in the graph, or where the export fails; a trace with a symbolic batch says
        why.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())
        >>> sizeless_program(model, (torch.zeros(2, 3, 1, 1),)) is not None
        True
    """
    many = tuple(
        torch.zeros_like(example[:1]).expand(BATCH, *example.shape[1:]) for example in examples
    )
    try:
        with _NoSizes():
            program = torch.export.export(module, many, strict=False)
    # torch.export lets through whatever the model raises; the symbolic trace meets it again.
    except Exception:
        return None
    return program if all(map(_plain, program.graph.nodes)) else None


class _AskedError(Exception):
    """The model's code asked for a size."""


class _NoSizes(TorchFunctionMode):
    """Stops the trace when code outside of torch asks for a size, or takes a batch apart."""

    def __init__(self) -> None:
        super().__init__()
        self._asking: set[Callable[..., object]] = {
            Tensor.shape.__get__,  # pyright: ignore
            Tensor.size,
            Tensor.numel,
            Tensor.nelement,
            Tensor.stride,
            Tensor.__len__,
            Tensor.__iter__,
            Tensor.unbind,
            Tensor.split,
            torch.unbind,
            torch.split,
            torch.numel,
        }
        folder = Path(torch.__file__).parent
        self._torch = f"{folder}{os.sep}"
        # Methods and functions that ask on behalf of their caller.
        self._agents = {str(folder / name) for name in ("_tensor.py", "functional.py")}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func in self._asking and not self._asked_by_torch(inspect.currentframe()):
            raise _AskedError
        return func(*args, **(kwargs or {}))

    def _asked_by_torch(self, frame: FrameType | None) -> bool:
        handlers = ("_asked_by_torch", "__torch_function__", "handle_torch_function")
        while frame is not None and (
            frame.f_code.co_name in handlers or frame.f_code.co_filename in self._agents
        ):
            frame = frame.f_back
        return frame is not None and frame.f_code.co_filename.startswith(self._torch)


def _plain(node: torch.fx.Node) -> bool:
    """Whether no number in the node may come from the batch, except the first size of its value."""
    leaves = tree_leaves((node.args, dict(node.kwargs)))
    ints = [n for n in leaves if isinstance(n, int) and not isinstance(n, bool)]
    values = tree_leaves(node.meta.get("val"))
    shapes = [tuple(value.shape) for value in values if isinstance(value, Tensor)]
    return (
        all(abs(n) <= _LARGEST_SIZE or n == sys.maxsize for n in ints)
        and all(shape[:1] <= (_LARGEST_SIZE,) or shape[0] % BATCH == 0 for shape in shapes)
        and all(size <= _LARGEST_SIZE for shape in shapes for size in shape[1:])
    )
