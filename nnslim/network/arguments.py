"""Arguments of a node: references to values and tensors, literals, and structures of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import torch

__all__ = [
    "Arg",
    "DeviceRef",
    "Plain",
    "Ref",
    "TensorRef",
    "dims_of",
    "map_arg",
    "refs",
    "tensor_refs",
]


@dataclass(frozen=True)
class Ref:
    """The value of an earlier node or of an input."""

    name: str


@dataclass(frozen=True)
class TensorRef:
    """A named parameter or buffer of the network."""

    name: str


@dataclass(frozen=True)
class DeviceRef:
    """The device the network runs on, wherever an operator asks for one."""


Plain: TypeAlias = bool | int | float | str | torch.dtype | torch.layout | torch.memory_format
Arg: TypeAlias = "Ref | TensorRef | DeviceRef | Plain | tuple[Arg, ...] | Mapping[str, Arg] | None"
T = TypeVar("T")


def map_arg(arg: object, function: Callable[[Any], Arg]) -> Arg:
    """Rebuild nested sequences and mappings as an argument, ``function`` applied to every leaf."""
    if isinstance(arg, (list, tuple)):
        return tuple(map_arg(entry, function) for entry in cast("list[object]", arg))
    if isinstance(arg, Mapping):
        items = cast("Mapping[object, object]", arg).items()
        return {str(key): map_arg(entry, function) for key, entry in items}
    return function(arg)


def _find(arg: Arg, kind: type[T]) -> Iterator[T]:
    if isinstance(arg, kind):
        yield arg
    elif isinstance(arg, (tuple, Mapping)):
        for entry in arg if isinstance(arg, tuple) else arg.values():
            yield from _find(entry, kind)


def refs(arg: Arg) -> Iterator[Ref]:
    """Yield the values an argument refers to, in order."""
    return _find(arg, Ref)


def dims_of(argument: Arg, rank: int) -> tuple[int, ...]:
    """Normalise a ``dim`` argument: None means all dimensions, negative ones count from the end."""
    if argument is None or argument == ():
        return tuple(range(rank))
    dims = argument if isinstance(argument, tuple) else (argument,)
    return tuple(int(dim) % rank for dim in dims)  # pyright: ignore[reportArgumentType]


def tensor_refs(arg: Arg) -> Iterator[TensorRef]:
    """Yield the parameters and buffers an argument refers to, in order."""
    return _find(arg, TensorRef)
