"""Law 1, "cut = masked", checked without the engine's rules, labels, literals or masks.

The oracle is given the uncut graph and, for each tensor and dimension, the indices that were kept,
which it reads from the public part of the groups: tensor names and positions. Three runs go node
by node in float64: the uncut network, the masked one, and the cut one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnslim.network import BATCH, Network, Node
from nnslim.network.graph import tensor_refs
from tests.laws.alive import LawBrokenError, sides
from tests.laws.runs import Kept, Masked, Run, gather

__all__ = ["Law1", "LawBrokenError", "check_law_1", "kept_indices", "random_inputs", "relative"]

_TOLERANCE = 1e-9


@dataclass
class Law1:
    """What the check saw.

    Attributes:
        error: Largest relative difference of any compared value.
        worst: Where it was.
        n_compared: Number of values compared.
        n_skipped: Number of values of other shapes between two layers: what is padded is only
            known to be removed where it meets a weight.
        removed: Largest activation that was zeroed; 0 says that nothing was tested.
        moved: Difference of the masked and the uncut outputs, relative to the largest entry.
    """

    error: float = 0.0
    worst: str = ""
    n_compared: int = 0
    n_skipped: int = 0
    removed: float = 0.0
    moved: float = 0.0

    @property
    def says_something(self) -> bool:
        """Whether a wrong cut could have been seen."""
        return self.removed > 0 and self.moved > 0

    def compare(self, found: Tensor, expected: Tensor, where: str) -> None:
        """Compare one value of the cut network with the gathered reference."""
        if found.shape != expected.shape:
            message = f"{where}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
            raise LawBrokenError(message)
        self.n_compared += 1
        error = relative(found, expected)
        if not error <= _TOLERANCE:
            raise LawBrokenError(f"{where}: differs by {error:.2e}, relative")
        if error > self.error:
            self.error, self.worst = error, where


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected entry."""
    if not expected.numel():
        return 0.0
    difference = (found.double() - expected.double()).abs().max()
    return float(difference) / max(float(expected.double().abs().max()), 1e-30)


def kept_indices(channels: Any, keep: Mapping[str, Any]) -> Kept:
    """Kept indices by tensor and dimension: the union over the groups that share the dimension.

    Args:
        channels: Has ``groups``; each has a ``name``, a ``width`` and ``members`` with ``tensor``,
            ``dim`` and ``positions`` (width, k).
        keep: Kept channels by group name.
    """
    found: dict[str, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for group in channels.groups:
        stay = np.asarray(keep.get(group.name, range(group.width)))
        for member in group.members:
            if member.blocks is None:
                found[member.tensor][member.dim].append(member.positions[stay].ravel())
    return {
        name: {d: torch.from_numpy(np.sort(np.concatenate(p))) for d, p in dims.items()}
        for name, dims in found.items()
    }


def block_columns(network: Network, channels: Any, keep: Mapping[str, Any]) -> dict[str, Tensor]:
    """Input channels left to each grouped convolution of which every group loses some."""
    found: dict[str, list[Any]] = defaultdict(list)
    for group in channels.groups:
        stay = np.asarray(keep.get(group.name, range(group.width)))
        for member in group.members:
            if member.blocks is not None:
                size = network.tensor(member.tensor).shape[1]
                found[member.tensor].append(member.blocks[stay] * size + member.positions[stay])
    return {
        name: torch.from_numpy(np.sort(np.concatenate([c.ravel() for c in columns])))
        for name, columns in found.items()
    }


def random_inputs(network: Network, seed: int = 0, batch: int = 2) -> list[Tensor]:
    """Normal inputs of the network's shapes, in float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [[batch if s == BATCH else s for s in e.info.shape] for e in network.graph.inputs]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def check_law_1(
    original: Network, cut: Network, channels: Any, keep: Mapping[str, Any], seed: int = 0
) -> Law1:
    """Compare every node of the cut network with the masked one; see the module.

    Raises:
        LawBrokenError: A value differs by more than 1e-9, or the cut network does not run.
    """
    inputs = random_inputs(original, seed)
    plain, small = Run(original, inputs), Run(cut, inputs)
    masked = Masked(
        original,
        inputs,
        kept=kept_indices(channels, keep),
        columns=block_columns(original, channels, keep),
    )
    last_uses = original.graph.last_uses()
    law = Law1()
    with torch.no_grad():
        for wide, narrow in zip(original.graph.nodes, cut.graph.nodes, strict=True):
            plain.step(wide)
            expected = masked.step(wide)
            try:
                found = small.step(narrow)
            except (RuntimeError, IndexError) as error:
                raise LawBrokenError(f"{narrow.name}: the cut network fails: {error}") from error
            _compare_input(law, masked, small, wide)
            _compare_value(law, masked, wide, expected, found)
            for name in last_uses[wide.name]:
                for run in (plain, masked, small):
                    del run.env[name]
                masked.masks.pop(name, None)
    _compare_outputs(law, plain, masked, small)
    return law


def _compare_input(law: Law1, masked: Masked, small: Run, node: Node) -> None:
    if masked.taken is not None:
        expected = gather(masked.argument(node.args[0]), masked.taken)
        law.compare(small.argument(node.args[0]), expected, f"input of {node.name}, {node.place}")


def _compare_value(law: Law1, masked: Masked, node: Node, expected: Any, found: Any) -> None:
    if not isinstance(expected, Tensor) or masked.masks[node.name].dtype != torch.bool:
        return  # a size, a list whose items come one by one, or an index
    where = f"{node.name}, {node.place}"
    has_weights = any(True for _ in tensor_refs(node))
    try:
        gathered = gather(expected, sides(masked.masks[node.name]))
    except LawBrokenError:
        if has_weights:
            raise
        law.n_skipped += 1
        return
    if gathered.shape != found.shape and not has_weights:
        law.n_skipped += 1
        return
    law.compare(found, gathered, where)


def _compare_outputs(law: Law1, plain: Run, masked: Masked, small: Run) -> None:
    outputs = zip(plain.outputs(), masked.outputs(), small.outputs(), strict=True)
    for number, (before, reference, found) in enumerate(outputs):
        law.compare(found, reference, f"output {number}")
        law.moved = max(law.moved, relative(reference, before))
    law.removed = masked.removed
