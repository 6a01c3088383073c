"""Names and shapes of a module's tensors without the time and memory of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Signature", "signature", "signature_of"]

Signature = dict[str, tuple[int, ...]]

_FILLS = frozenset(
    ("normal_", "uniform_", "trunc_normal_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_")
)


class _MisfitError(RuntimeError):
    """A tensor of an impossible shape was asked for: the build need not go on."""


class _WithoutWeights(TorchFunctionMode):
    """``torch.empty`` allocates nothing and initialisation does nothing.

    ``torch.device("meta")`` would also catch the small tensors that constructors compute with:
    torchvision's RegNets read their block widths from one.
    """

    def __init__(self, possible: Callable[[tuple[int, ...]], bool] | None) -> None:
        super().__init__()
        self.possible = possible

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            if self.possible is not None and not self.possible(_requested(args)):
                raise _MisfitError
            kwargs["device"] = "meta"
        elif args and getattr(func, "__name__", "") in _FILLS:
            target = args[0]
            if isinstance(target, Tensor) and target.is_meta:
                return target
        return func(*args, **kwargs)


def _requested(args: tuple[object, ...]) -> tuple[int, ...]:
    sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
    return tuple(size for size in sizes if isinstance(size, int))


def signature(
    build: Callable[[], nn.Module], possible: Callable[[tuple[int, ...]], bool] | None = None
) -> Signature | None:
    """Return the name and shape of every entry of the state dict of what ``build`` makes.

    Args:
        build: Makes the module; its weights are neither allocated nor initialised.
        possible: Whether a weight of this shape may occur; the first that may not ends the build,
            which is what makes trying a thousand architectures quick.

    Returns:
        Shapes by name, in the module's order, or None when a shape is impossible, or when the
        constructor fails without weights (it runs a forward pass, for instance) or fails anyway.

    Example:
        >>> signature(lambda: nn.Linear(10**6, 10**6))
        {'weight': (1000000, 1000000), 'bias': (1000000,)}
    """
    try:
        with _WithoutWeights(possible):
            module = build()
    except (RuntimeError, TypeError, ValueError):
        return None
    return signature_of(module.state_dict())


def signature_of(state: Mapping[str, Tensor]) -> Signature:
    """Return the shapes of a state dict by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
