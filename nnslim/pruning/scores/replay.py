"""Runs a network's graph from the middle, again and again, without repeating what comes before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from nnslim.network.graph import Graph, Node, Ref
from nnslim.network.operators import is_in_place, resolve
from nnslim.pruning.scores.streamline import reusable_operand, single_uses

if TYPE_CHECKING:
    from nnslim.network.interpreter import Call, Step
    from nnslim.network.network import Network

__all__ = ["Replay"]

# Operators that return a view of their operand when they can.
_MAYBE_VIEWS = ("reshape", "contiguous", "flatten", "to", "dropout")


class Replay:
    """One batch on its way through a network.

    ``advance`` moves the common prefix forward; ``finish`` runs the rest with the weights as they
    are now and returns the output, leaving the prefix as it was. What only the rest has made and
    only one node reads is overwritten by that node's result: no memory, no pass over it.
    """

    def __init__(self, network: Network, inputs: tuple[Tensor, ...]) -> None:
        """Stand before the first node."""
        network.check_inputs(inputs)
        self._network = network
        self._device = inputs[0].device
        self._env: dict[str, object] = {
            entry.name: value for entry, value in zip(network.graph.inputs, inputs, strict=True)
        }
        self._at = 0
        self._safe = _safe_starts(network.graph)
        self._born = {node.name: index for index, node in enumerate(network.graph.nodes)}
        once = single_uses(network.graph)
        self._over = {
            node.name: (reusable[0], resolve(reusable[1]))
            for node in network.graph.nodes
            if (reusable := reusable_operand(network.graph, node, once))
        }

    @property
    def at(self) -> int:
        """Number of the node before which the prefix ends."""
        return self._at

    def value(self, name: str) -> object:
        """Return a value of the prefix that is still to be read."""
        return self._env[name]

    def can_start(self, start: int) -> bool:
        """Whether the rest can be run repeatedly from this very node."""
        return self._safe[start] == start

    def advance(self, start: int) -> None:
        """Run the prefix up to node number ``start`` or a little less; it must not lie behind.

        The prefix never ends where the rest would write into memory that the prefix left.
        """
        start = self._safe[start]
        assert start >= self._at, "a replay cannot go back"
        steps = self._network.program.steps
        for step in steps[self._at : start]:
            self._network.program.execute(step, self._network, self._env, self._device)
        self._at = start

    def finish(
        self, call: Call | None = None, changed: Mapping[str, object] | None = None
    ) -> object:
        """Run from where the prefix ends and return the network's output.

        ``call`` replaces the operator calls; ``changed`` values stand in for those that the prefix
        left, and may be overwritten.
        """
        changed = changed or {}
        env = {**self._env, **changed}
        if self._at == 0:  # before the first node there are only inputs, which share no memory
            env.update({n: value.clone() for n, value in env.items() if isinstance(value, Tensor)})

        def write_over(step: Step, args: list[object], kwargs: dict[str, object]) -> object:
            operand, in_place = self._over.get(step.node.name, ("", step.function))
            fresh = operand in changed or self._born.get(operand, -1) >= self._at
            return (in_place if fresh else step.function)(*args, **kwargs)

        return self._network.program.run(
            self._network, env, self._device, self._at, call or write_over
        )


def _safe_starts(graph: Graph) -> list[int]:
    """For every node, the latest start not behind it from which the rest can run repeatedly."""
    roots = _storage_roots(graph.nodes)
    born = {node.name: index for index, node in enumerate(graph.nodes)}
    unsafe = [False] * (len(graph.nodes) + 1)
    for index, node in enumerate(graph.nodes):
        target = node.operand
        if is_in_place(node.op) and isinstance(target, Ref):
            first = born.get(roots.get(target.name, target.name), -1) + 1
            # Between the birth of the memory and the write, a prefix would hold what is written to.
            unsafe[max(first, 1) : index + 1] = [True] * (index + 1 - max(first, 1))
    safe = [0]
    for index in range(1, len(unsafe)):
        safe.append(safe[-1] if unsafe[index] else index)
    return safe


def _storage_roots(nodes: tuple[Node, ...]) -> dict[str, str]:
    """For each value, the earliest value whose memory it may share."""
    roots: dict[str, str] = {}
    for node in nodes:
        source = node.operand
        shares = isinstance(source, Ref) and _may_alias(node)
        roots[node.name] = roots.get(source.name, source.name) if shares else node.name  # pyright: ignore
    return roots


def _may_alias(node: Node) -> bool:
    """Views, in-place operators, list items, and copies that are views when they can be."""
    if node.op == "python.getitem" or node.family in _MAYBE_VIEWS:
        return True
    if not node.family:
        return False
    schema = resolve(node.op)._schema  # pyright: ignore
    return bool(schema.arguments) and schema.arguments[0].alias_info is not None
