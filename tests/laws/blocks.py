"""What the hand-made nets are built from, and the list they put themselves on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["IMAGE", "Case", "Net", "Registry", "conv", "conv_bn", "shuffle"]

IMAGE = (3, 8, 8)


@dataclass(frozen=True)
class Case:
    """A net to try the laws on.

    Attributes:
        make: Builds the module; weights follow torch's global seed.
        shapes: Shape of each input without the batch.
        prunable: Layers whose outputs (``name``) or inputs (``name.in``) can be cut, with the
            number of channels, so that a net cannot pass by having nothing to cut.
    """

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    prunable: dict[str, int]


class Registry(dict[str, Case]):
    """Nets by name; a class puts itself on the list with ``@registry.add(groups)``."""

    def add(
        self, prunable: dict[str, int], *shapes: tuple[int, ...]
    ) -> Callable[[type[nn.Module]], type[nn.Module]]:
        """Register a class under its own name."""

        def register(kind: type[nn.Module]) -> type[nn.Module]:
            self[kind.__name__] = Case(kind, shapes or (IMAGE,), prunable)
            return kind

        return register


class Net(nn.Module):
    """Averages pixels and classifies into five classes; subclasses do the rest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 5)

    def classify(self, y: Tensor) -> Tensor:
        return self.head(y.mean((2, 3)))


def conv(n_in: int, n_out: int, kernel: int = 3, **options: object) -> nn.Conv2d:
    """A convolution that keeps the size of the image."""
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, **options)


def conv_bn(n_in: int, n_out: int, kernel: int = 3, **options: object) -> nn.Sequential:
    """Convolution, batch norm, activation: in place, as most models do it, and never dead."""
    options = {"bias": False, **options}
    return nn.Sequential(
        conv(n_in, n_out, kernel, **options), nn.BatchNorm2d(n_out), nn.LeakyReLU(0.2, inplace=True)
    )


def shuffle(y: Tensor, groups: int) -> Tensor:
    """ShuffleNet's channel shuffle."""
    n, c, h, w = y.shape
    y = y.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous()
    return y.view(n, c, h, w)
