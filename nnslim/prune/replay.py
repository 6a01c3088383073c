"""Runs a network's graph from the middle, again and again, without repeating what comes before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from nnslim.network.graph import Node, Ref
from nnslim.network.operators import resolve

if TYPE_CHECKING:
    from nnslim.network.network import Network

__all__ = ["Replay"]


class Replay:
    """One batch on its way through a network.

    ``advance`` moves the common prefix forward; ``finish`` runs the rest with the weights as they
    are now and returns the output, leaving the prefix as it was.
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
        self._roots = _storage_roots(network.graph.nodes)

    def advance(self, start: int) -> None:
        """Run the prefix up to node number ``start``, which must not lie behind."""
        assert start >= self._at, "a replay cannot go back"
        steps = self._network.program.steps
        for step in steps[self._at : start]:
            self._network.program.execute(step, self._network, self._env, self._device)
        self._at = start

    def finish(self) -> object:
        """Run from where the prefix ends and return the network's output."""
        env = dict(self._env)
        for name in self._overwritten():
            value = env[name]
            assert isinstance(value, Tensor)
            env[name] = value.clone()
        return self._network.program.run(self._network, env, self._device, self._at)

    def output(self) -> object:
        """Return the network's output without moving."""
        return self.finish()

    def _overwritten(self) -> set[str]:
        """Values of the prefix that a later in-place operator writes to."""
        written = {
            self._roots[ref.name]
            for node in self._network.graph.nodes[self._at :]
            if _in_place(node) and isinstance(ref := node.args[0], Ref) and ref.name in self._roots
        }
        return {name for name in self._env if self._roots.get(name, name) in written}


def _storage_roots(nodes: tuple[Node, ...]) -> dict[str, str]:
    """For each value, the earliest value whose memory it may share."""
    roots: dict[str, str] = {}
    for node in nodes:
        source = node.args[0] if node.args else None
        shares = isinstance(source, Ref) and _may_alias(node)
        roots[node.name] = roots.get(source.name, source.name) if shares else node.name  # pyright: ignore
    return roots


def _in_place(node: Node) -> bool:
    return node.op.startswith("aten.") and node.op.split(".")[1].endswith("_")


def _may_alias(node: Node) -> bool:
    """Views, in-place operators, list items, and copies that are views when they can be."""
    if node.op == "python.getitem" or node.op.split(".")[1] in (
        "reshape",
        "contiguous",
        "flatten",
        "to",
        "dropout",
    ):
        return True
    if not node.op.startswith("aten."):
        return False
    schema = resolve(node.op)._schema  # pyright: ignore
    return bool(schema.arguments) and schema.arguments[0].alias_info is not None
