"""One walk over the graph: every value gets labels, every operator ties or freezes them.

A rule is a function ``rule(walk, node, args) -> labels of the node's value``. ``args`` maps the
operator's argument names to the node's arguments, defaults filled in. Rules read labels with
``walk.labels`` and shapes with ``walk.shape``, and say what they find with ``walk.tie``,
``walk.freeze`` and ``walk.approximate``. See docs/reference/rules.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
from torch import Tensor

from nnslim.channels.labels import DimLabels, IntArray, Labels
from nnslim.channels.splits import Splits
from nnslim.network.graph import Arg, Graph, Node, Ref, TensorInfo, TensorRef, refs, tensor_refs

__all__ = ["Arguments", "Freeze", "Rule", "RuleResult", "Walk"]

Arguments: TypeAlias = Mapping[str, Arg]
RuleResult: TypeAlias = "Labels | tuple[Labels, ...] | None"
Rule: TypeAlias = "Callable[[Walk, Node, Arguments], RuleResult]"


@dataclass(frozen=True)
class Freeze:
    """Labels that must stay, and why."""

    labels: IntArray
    reason: str


@dataclass
class Walk:
    """The state of one walk over a graph.

    Attributes:
        graph: The graph walked over.
        tensors: Parameters and buffers by name.
        values: Labels of every value so far; a tuple of them for list-valued nodes.
        parameters: Labels of every parameter and float buffer met so far.
        freezes: What must not be cut, and why.
        approximations: Labels over which a norm or a mean runs.
        balances: Labels, one row per group, of which every row must keep the same number.
        splits: What shrinks where a dimension is split into groups and their members.
    """

    graph: Graph
    tensors: Mapping[str, Tensor]
    values: dict[str, RuleResult] = field(default_factory=dict)
    parameters: dict[str, Labels] = field(default_factory=dict)
    freezes: list[Freeze] = field(default_factory=list)
    approximations: list[Freeze] = field(default_factory=list)
    ties: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    balances: list[IntArray] = field(default_factory=list)
    splits: Splits = field(default_factory=Splits)
    n_labels: int = 0
    _node: Node | None = None

    def run(self, rules: Mapping[str, Rule]) -> None:
        """Apply the rules to every node, then freeze what reaches the outputs."""
        for entry in self.graph.inputs:
            self.values[entry.name] = (None,) * len(entry.info.shape)
        for node in self.graph.nodes:
            self._node = node
            rule = rules.get(node.op)
            if rule is None:
                self.values[node.name] = self.refuse(node, f"no rule for {node.place}")
            else:
                self.values[node.name] = rule(self, node, node.named_arguments)
        self._node = None
        for ref in (*refs(self.graph.output), *tensor_refs(self.graph.output)):
            self.freeze_value(ref, "network output")

    def refuse(self, node: Node, reason: str) -> RuleResult:
        """Freeze everything that reaches a node and give its value fixed sizes."""
        for ref in (*refs(node.arguments), *tensor_refs(node.arguments)):
            self.freeze_value(ref, reason)
        return self.fixed(node)

    def fixed(self, node: Node) -> RuleResult:
        """Labels of a value none of whose sizes can change."""
        match node.value:
            case TensorInfo(shape=shape):
                return (None,) * len(shape)
            case tuple() as infos:
                return tuple((None,) * len(info.shape) for info in infos)
            case _:
                return None

    def shape(self, arg: Arg) -> tuple[int, ...]:
        """Shape of a value, parameter or buffer before any cut."""
        if isinstance(arg, TensorRef):
            return tuple(self.tensors[arg.name].shape)
        assert isinstance(arg, Ref), f"{arg!r} is not a tensor"
        info = self.graph.info(arg.name)
        assert isinstance(info, TensorInfo), f"{arg.name} is not one tensor"
        return info.shape

    def is_tensor(self, arg: Arg) -> bool:
        """Whether an argument is a tensor (and not a number, None or a computed size)."""
        if isinstance(arg, TensorRef):
            return True
        return isinstance(arg, Ref) and isinstance(self.graph.info(arg.name), TensorInfo)

    def labels(self, arg: Arg, dims: Sequence[int] | None = None) -> Labels:
        """Labels of a value or parameter, one entry per dimension.

        Args:
            arg: The value or parameter.
            dims: For a parameter, the dimensions that may shrink; None means all of them. A
                dimension of size 1 broadcasts and is never labelled.
        """
        if isinstance(arg, Ref):
            return cast("Labels", self.values[arg.name])
        assert isinstance(arg, TensorRef), f"{arg!r} is not a tensor"
        known = self.parameters.get(arg.name)
        if known is None:
            known = self._new_parameter(arg, dims)
            self.parameters[arg.name] = known
        if dims is None:
            by_block = [labels is not None and labels.ndim > 1 for labels in known]
            if not any(by_block):
                return known
            self.freeze(known, f"{arg.name} is used in two ways")
            pairs = zip(known, by_block, strict=True)
            return tuple(None if blocks else labels for labels, blocks in pairs)
        for dim, labels in enumerate(known):
            if dim not in dims and labels is not None:
                self.freeze(labels, f"{arg.name} is used in two ways")
        return tuple(labels if dim in dims else None for dim, labels in enumerate(known))

    def _new_parameter(self, ref: TensorRef, dims: Sequence[int] | None) -> Labels:
        tensor = self.tensors[ref.name]
        if not tensor.dtype.is_floating_point:
            return (None,) * tensor.dim()
        allowed = range(tensor.dim()) if dims is None else dims
        return tuple(
            self.fresh(size) if size > 1 and dim in allowed else None
            for dim, size in enumerate(tensor.shape)
        )

    def block_labels(self, ref: TensorRef, blocks: IntArray) -> None:
        """Label dimension 1 of a tensor differently for each of the equal runs of its rows.

        Args:
            ref: A tensor of which dimension 0 falls into as many runs as ``blocks`` has rows.
            blocks: Labels along dimension 1, one row per run.
        """
        known = self.parameters[ref.name]
        if known[1] is None:
            self.parameters[ref.name] = (known[0], blocks, *known[2:])
        else:
            self.tie(known[1].ravel(), blocks.ravel())

    def fresh(self, size: int) -> IntArray:
        """Return ``size`` new labels."""
        first, self.n_labels = self.n_labels, self.n_labels + size
        return np.arange(first, first + size, dtype=np.int64)

    def tie(self, a: DimLabels, b: DimLabels) -> None:
        """Say that two dimensions of equal size live and die together, index by index."""
        if a is b:
            return
        if a is None or b is None:
            self.freeze(b if a is None else a, f"meets a fixed size at {self.place}")
            return
        assert a.shape == b.shape, f"tie of sizes {a.size} and {b.size} at {self.place}"
        self.ties.append((a, b))

    def tie_all(self, runs: Sequence[DimLabels]) -> DimLabels:
        """Tie dimensions of equal size with the first; returns the labels of one of them."""
        for other in runs[1:]:
            self.tie(runs[0], other)
        return next((labels for labels in runs if labels is not None), None)

    def tie_within(self, by_group: IntArray) -> None:
        """Say that the labels of each row live and die together: groups are dropped whole."""
        first = np.broadcast_to(by_group[:, :1], by_group.shape)
        self.tie(first.ravel(), by_group.ravel())

    def balance(self, by_group: IntArray) -> None:
        """Say that every row must keep the same number of labels."""
        if by_group.shape[0] > 1:
            self.balances.append(by_group)

    def picks_whole(self, n_groups: int, n_members: int, only: bool = False) -> bool:
        """Whether whole groups may go at this node, or an equal number of members of each."""
        assert self._node is not None
        return self.splits.picks_whole(self._node.name, n_groups, n_members, only)

    def pick_axis(self, block: IntArray) -> int:
        """The one axis of a split dimension that may shrink; the others are tied along it."""
        assert self._node is not None
        return self.splits.pick_axis(self._node.name, block)

    def freeze(self, labels: DimLabels | Labels, reason: str) -> None:
        """Say that the labels of a dimension, or of several, must stay."""
        self._mark(self.freezes, labels, reason)

    def freeze_value(self, arg: Arg, reason: str) -> None:
        """Freeze every label of a value or parameter, whatever its structure."""
        if isinstance(arg, TensorRef) or self.is_tensor(arg):
            self.freeze(self.labels(arg), reason)
        elif isinstance(arg, Ref) and isinstance(self.values[arg.name], tuple):
            for item in cast("tuple[Labels, ...]", self.values[arg.name]):
                self.freeze(item, reason)

    def approximate(self, labels: DimLabels | Labels) -> None:
        """Say that cutting the labels of these dimensions changes what a norm or mean computes."""
        self._mark(self.approximations, labels, f"normalised over at {self.place}")

    def _mark(self, marks: list[Freeze], labels: DimLabels | Labels, reason: str) -> None:
        runs = labels if isinstance(labels, tuple) else (labels,)
        marks += [Freeze(run.ravel(), reason) for run in runs if run is not None and run.size]

    @property
    def place(self) -> str:
        """Where the walk is, for reasons."""
        return "the output" if self._node is None else self._node.place
