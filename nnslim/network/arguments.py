"""Arguments of a node: references to values and tensors, literals, and structures of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch

__all__ = ["Arg", "DeviceRef", "Ref", "TensorRef", "dims_of", "map_arg", "refs", "tensor_refs"]


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


Leaf: TypeAlias = (
    Ref
    | TensorRef
    | DeviceRef
    | bool
    | int
    | float
    | str
    | torch.dtype
    | torch.layout
    | torch.memory_format
    | None
)
Arg: TypeAlias = "Leaf | tuple[Arg, ...] | Mapping[str, Arg]"


def map_arg(arg: Arg, function: Callable[[Arg], Arg]) -> Arg:
    """Rebuild an argument with ``function`` applied to every leaf."""
    if isinstance(arg, tuple):
        return tuple(map_arg(entry, function) for entry in arg)
    if isinstance(arg, Mapping):
        return {key: map_arg(entry, function) for key, entry in arg.items()}
    return function(arg)


def _find(arg: Arg, kind: type) -> Iterator[Ref | TensorRef]:
    if isinstance(arg, tuple):
        for entry in arg:
            yield from _find(entry, kind)
    elif isinstance(arg, Mapping):
        for entry in arg.values():
            yield from _find(entry, kind)
    elif isinstance(arg, kind):
        yield arg  # pyright: ignore[reportReturnType]


def refs(arg: Arg) -> Iterator[Ref]:
    """Yield the values an argument refers to, in order."""
    return _find(arg, Ref)  # pyright: ignore[reportReturnType]


def dims_of(argument: Arg, rank: int) -> tuple[int, ...]:
    """Normalise a ``dim`` argument: None means all dimensions, negative ones count from the end."""
    if argument is None or argument == ():
        return tuple(range(rank))
    dims = argument if isinstance(argument, tuple) else (argument,)
    return tuple(int(dim) % rank for dim in dims)  # pyright: ignore[reportArgumentType]


def tensor_refs(arg: Arg) -> Iterator[TensorRef]:
    """Yield the parameters and buffers an argument refers to, in order."""
    return _find(arg, TensorRef)  # pyright: ignore[reportReturnType]
