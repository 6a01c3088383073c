"""Sizes that depend on the batch, as plain numbers that know it.

A trace runs with one batch size, ``BATCH``. What it finds holds for every batch size as long as the
model's code only multiplies it, divides it exactly, and compares it with its
multiples. Anything else, such as a branch on the batch size, stops the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nnslim.network.graph import BATCH

__all__ = ["BatchSize", "NotRecordedError", "WatchSizes", "is_batch_size"]

# Anything larger may have been computed from the batch.
_LARGEST_PLAIN = BATCH // 16


class NotRecordedError(Exception):
    """The model does what only ``torch.export`` can follow; says what."""


def is_batch_size(size: int) -> bool:
    """Whether a size comes from the batch.

    Raises:
        NotRecordedError: It may or may not.

    Example:
        >>> is_batch_size(BATCH * 49), is_batch_size(49)
        (True, False)
    """
    if abs(size) <= _LARGEST_PLAIN:
        return False
    if size < 0 or size % BATCH:
        raise NotRecordedError(f"the size {size}")
    return True


def _stop(*_: object) -> NoReturn:
    raise NotRecordedError("the model's code computes with the batch size, or depends on it")


class BatchSize(int):  # noqa: PLW1641 - its __hash__ stops the trace
    """A multiple of ``BATCH``, which stands for that multiple of any batch size above 1.

    Example:
        >>> size = BatchSize(4 * BATCH)
        >>> size * 3 // 6 == BatchSize(2 * BATCH), size % 2, size > 1
        (True, 0, True)
    """

    def __mul__(self, other: object) -> int:
        """Multiply by a number that does not come from the batch."""
        if type(other) is not int:
            _stop()
        return BatchSize(int.__mul__(self, other)) if other > 0 else _stop()

    __rmul__ = __mul__

    def __floordiv__(self, other: object) -> int:
        """Divide where it comes out even for every batch size."""
        return BatchSize(int.__floordiv__(self, other)) if self % other == 0 else _stop()  # pyright: ignore

    def __mod__(self, other: object) -> int:
        """Return 0 where it is 0 for every batch size."""
        if type(other) is not int or other <= 0 or self._times() % other:
            _stop()
        return 0

    def __eq__(self, other: object) -> bool:
        """Compare with another multiple of the batch, or with 0 and 1."""
        if isinstance(other, int):
            return self._compared(other) == 0
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other if isinstance(other, int) else NotImplemented

    def __lt__(self, other: int) -> bool:
        return self._compared(other) < 0

    def __le__(self, other: int) -> bool:
        return self._compared(other) <= 0

    def __gt__(self, other: int) -> bool:
        return self._compared(other) > 0

    def __ge__(self, other: int) -> bool:
        return self._compared(other) >= 0

    __hash__ = __float__ = _stop  # pyright: ignore
    __int__ = __index__ = __neg__ = __abs__ = __pos__ = __invert__ = _stop  # pyright: ignore
    __trunc__ = __floor__ = __ceil__ = _stop  # pyright: ignore
    __rlshift__ = __rrshift__ = __rxor__ = _stop
    __add__ = __radd__ = __sub__ = __rsub__ = __pow__ = __rpow__ = _stop
    __truediv__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __divmod__ = __rdivmod__ = _stop
    __lshift__ = __rshift__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __round__ = _stop

    def _times(self) -> int:
        return int.__floordiv__(self, BATCH)

    def _compared(self, other: int) -> int:
        """Return which is larger, by sign, if that is so for all batch sizes above 1."""
        if isinstance(other, BatchSize):
            return self._times() - other._times()
        return 1 if other < 2 else _stop()


class WatchSizes(TorchFunctionMode):
    """While entered, sizes that come from the batch know it, and no batch is taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self._asking: set[Callable[..., object]] = {
            Tensor.shape.__get__,  # pyright: ignore
            Tensor.size,
            Tensor.numel,
            Tensor.nelement,
            Tensor.stride,
            torch.numel,
        }
        self._first: set[Callable[..., object]] = {Tensor.__len__, Tensor.__iter__}
        self._taking_apart: dict[Callable[..., object], int] = {  # position of the dimension
            Tensor.unbind: 1,
            torch.unbind: 1,
            Tensor.split: 2,
            torch.split: 2,
        }

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func in self._asking:
            return _marked(func(*args, **kwargs))
        dim: object = 0 if func in self._first else None
        if (position := self._taking_apart.get(func)) is not None:
            dim = kwargs.get("dim", args[position] if len(args) > position else 0)
        if isinstance(dim, int) and is_batch_size(cast("Tensor", args[0]).size(dim)):
            raise NotRecordedError("the model's code takes the batch apart")
        return func(*args, **kwargs)


def _marked(size: object) -> object:
    """Return a size, or a tuple of sizes, in which those from the batch know it."""
    if isinstance(size, tuple):
        return tuple(_marked(entry) for entry in cast("tuple[object, ...]", size))
    return BatchSize(size) if isinstance(size, int) and is_batch_size(size) else size
