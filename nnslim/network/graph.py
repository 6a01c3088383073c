"""The graph a network is made of: ATen operators over named values, as plain immutable data.

Sizes that depend on the batch are written as multiples of ``BATCH``, a prime larger than any
width, so that all shape arithmetic stays integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias, cast

import torch

from nnslim.network.arguments import (
    Arg,
    DeviceRef,
    Ref,
    TensorRef,
    dims_of,
    map_arg,
    refs,
    tensor_refs,
)
from nnslim.network.operators import LAYERS, argument_names, family_of, resolve

__all__ = [
    "BATCH",
    "Arg",
    "CustomRules",
    "DeviceRef",
    "Graph",
    "Input",
    "Node",
    "Ref",
    "TensorInfo",
    "TensorRef",
    "dims_of",
    "map_arg",
    "refs",
    "tensor_refs",
]

BATCH = 1_000_003


@dataclass(frozen=True)
class TensorInfo:
    """Shape and element type of a value; the batch is a multiple of ``BATCH``."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def sizes(self) -> str:
        """The shape for people, such as ``(N, 3, 224, 224)``."""
        counts = ((s, s // BATCH if s % BATCH == 0 else 0) for s in self.shape)
        texts = ("N" if n == 1 else f"{n}N" if n else str(s) for s, n in counts)
        return f"({', '.join(texts)})"


# Rules belong to nnslim.channels; a graph only carries them.
CustomRules: TypeAlias = Mapping[str, Callable[..., object]]
Value: TypeAlias = "TensorInfo | tuple[TensorInfo, ...] | int | float | bool | None"


@dataclass(frozen=True)
class Input:
    """One input of the network."""

    name: str
    info: TensorInfo


@dataclass(frozen=True)
class Node:
    """One operator call.

    Attributes:
        name: Unique name of the value.
        op: Operator name, such as ``aten.conv2d.default``.
        args: Positional arguments.
        kwargs: Keyword arguments.
        value: What the call returns.
        module: Path of the module of the source model, such as ``layer1.0.conv1``.
        source: File and line of the source model, such as ``models/resnet.py:92``.
    """

    name: str
    op: str
    args: tuple[Arg, ...]
    kwargs: Mapping[str, Arg]
    value: Value
    module: str = ""
    source: str = ""

    @property
    def arguments(self) -> tuple[Arg, ...]:
        """Positional and keyword arguments together."""
        return (*self.args, *self.kwargs.values())

    @cached_property
    def family(self) -> str:
        """Kind of operator, such as ``convolution``; empty for operators that are not ATen's.

        Example:
            >>> Node("y", "aten.relu_.default", (Ref("x"),), {}, None).family
            'relu'
        """
        family = family_of(self.op)
        transposed = family == "convolution" and self.named_arguments.get("transposed")
        return "transposed_convolution" if transposed else family

    @cached_property
    def named_arguments(self) -> Mapping[str, Arg]:
        """All arguments by their schema names and in its order, defaults filled in."""
        names = cast("Mapping[str, Arg]", argument_names(self.op))
        given = dict(zip(names, self.args, strict=False)) | dict(self.kwargs)
        return {name: given.get(name, default) for name, default in names.items()}

    def argument(self, name: str) -> Arg:
        """Return an argument by its schema name: as it was given, or its default.

        Raises:
            KeyError: The operator has no such argument.

        Example:
            >>> node = Node("y", "aten.softmax.int", (Ref("x"), -1), {}, None)
            >>> node.argument("dim"), node.argument("dtype")
            (-1, None)
        """
        return self.named_arguments[name]

    @property
    def operand(self) -> Arg:
        """First argument, which most operators work on; None where there is none."""
        return next(iter(self.named_arguments.values()), None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the one tensor the call returns."""
        assert isinstance(self.value, TensorInfo), f"{self.name} is not one tensor"
        return self.value.shape

    def permutation(self, rank: int) -> tuple[int, ...]:
        """Where each dimension comes from, of a permute, transpose, movedim or the like.

        Example:
            >>> Node("y", "aten.transpose.int", (Ref("x"), -1, -2), {}, None).permutation(3)
            (0, 2, 1)
        """
        sizes = torch.empty(tuple(range(2, rank + 2)), device="meta")  # each tells its dimension
        moved = resolve(self.op)(**{**self.named_arguments, "self": sizes})
        return tuple(size - 2 for size in cast("torch.Tensor", moved).shape)

    @property
    def layer_weight(self) -> str | None:
        """Name of the weight of a convolution or linear layer; None for anything else."""
        if self.family not in LAYERS:
            return None
        weight = self.argument("weight")
        return weight.name if isinstance(weight, TensorRef) else None

    @property
    def place(self) -> str:
        """Where the call stands, for messages: operator, module and source line."""
        where = ", ".join(part for part in (self.module, self.source) if part)
        return f"{self.op} ({where})" if where else self.op


@dataclass(frozen=True)
class Graph:
    """Inputs, nodes in order of execution, and the structure of the output.

    Attributes:
        inputs: What the network takes.
        nodes: Operator calls in order.
        output: What it returns.
        custom: Operators beyond the closed list that the caller allows, each with the rule that
            says what it does to channels (docs/how-to/custom-operator.md).
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    output: Arg
    custom: CustomRules = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def layer_weights(self) -> Mapping[str, bool]:
        """Names of the weights of convolutions and linear layers, and which are transposed."""
        return {
            weight: node.family == "transposed_convolution"
            for node in self.nodes
            if (weight := node.layer_weight) is not None
        }

    def info(self, name: str) -> Value:
        """Return what the node or input of this name holds."""
        if name in self.by_name:
            return self.by_name[name].value
        return next(entry.info for entry in self.inputs if entry.name == name)

    def with_nodes(self, nodes: tuple[Node, ...]) -> Graph:
        """Return this graph with other nodes."""
        return replace(self, nodes=nodes)

    def tensor_names(self) -> tuple[str, ...]:
        """Names of the parameters and buffers that the nodes use, in order of first use."""
        used = (*(node.arguments for node in self.nodes), self.output)
        return tuple(dict.fromkeys(ref.name for arg in used for ref in tensor_refs(arg)))

    def last_uses(self) -> dict[str, tuple[str, ...]]:
        """For each node, the values that no later node and no output needs."""
        keep = {ref.name for ref in refs(self.output)}
        seen: set[str] = set()
        result: dict[str, tuple[str, ...]] = {}
        for node in reversed(self.nodes):
            used = {ref.name for ref in refs(node.arguments)}
            dying = (used | {node.name}) - seen - keep
            result[node.name] = tuple(sorted(dying))
            seen |= used
        return result
