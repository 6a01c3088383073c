"""Law 1 as a run-time check: the cut network equals the masked one, node by node.

The reference is the uncut network in which, at every contraction, the removed channels of the
input are zero, and in which a norm over cut channels runs on the kept ones. Both networks run in
float64 in lockstep; a value that differs anywhere is an error, not a warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from nnslim.errors import VerificationError
from nnslim.network.graph import BATCH, TensorInfo
from nnslim.surgery.edit import resolve_edit
from nnslim.surgery.masked import MaskedSide, Side, kept_entries

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.channels.labels import Labels
    from nnslim.network.network import Network
    from nnslim.surgery.edit import Edit

__all__ = ["CutCheck", "verify_cut"]

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class CutCheck:
    """What the check saw.

    Attributes:
        error: Largest difference of any value of any node, relative to the largest entry of that
            value in the reference, in float64.
        noise: The same difference between the reference in float32 and in float64: how much
            rounding alone changes the network that the user runs.
        n_values: Number of node values compared.
        removed: Largest removed activation that was set to zero; 0 means that the check is vacuous.
        worst: Name of the node with the largest error.
    """

    error: float
    noise: float
    n_values: int
    removed: float
    worst: str

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "error": self.error,
            "float32_noise": self.noise,
            "n_values": self.n_values,
            "largest_removed_activation": self.removed,
            "worst_node": self.worst,
            "tolerance": _TOLERANCE,
        }


def verify_cut(
    original: Network, cut: Network, channels: ChannelMap, edit: Edit, seed: int = 0
) -> CutCheck:
    """Check law 1 after an edit.

    Args:
        original: The network before the edit.
        cut: ``apply_edit(original, edit, channels)``, untrained since.
        channels: The groups of ``original``.
        edit: What was kept.
        seed: Of the random input, a batch of 2.

    Raises:
        VerificationError: A value differs by more than 1e-9 in float64; names the node.
    """
    resolved = resolve_edit(channels, edit)
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        entry.name: torch.randn(
            [2 if s == BATCH else s for s in entry.info.shape],
            generator=generator,
            dtype=torch.float64,
        )
        for entry in original.graph.inputs
    }
    reference = MaskedSide(original, inputs, torch.float64, resolved)
    single = MaskedSide(original, inputs, torch.float32, resolved)
    with torch.inference_mode():
        return _in_lockstep(reference, single, Side(cut, inputs, torch.float64))


def _in_lockstep(reference: MaskedSide, single: MaskedSide, cut: Side) -> CutCheck:
    """Run the reference in two precisions and the cut network, one node at a time."""
    largest, noise, n_values, worst = 0.0, 0.0, 0, ""
    steps = zip(reference.network.program.steps, cut.network.program.steps, strict=True)
    for step, narrow in steps:
        values = reference.execute(step), single.execute(step), cut.execute(narrow)
        if not isinstance(step.node.value, TensorInfo):
            continue
        exact, rounded, value = cast("tuple[Tensor, ...]", values)
        labels = cast("Labels", reference.edit.channels.values[step.node.name])
        kept = kept_entries(exact, labels, reference.edit)
        scale = _scale(kept)
        error = _difference(value, kept) / scale
        rounded = kept_entries(rounded, labels, reference.edit)
        noise = max(noise, _difference(rounded, kept) / scale)
        n_values += 1
        if not error <= _TOLERANCE:
            raise VerificationError(
                f"the cut network differs from the masked one by {error:.2e}"
                f" (limit {_TOLERANCE:.0e}) at {step.node.name!r}, {step.node.place}",
                hint="nothing was written; please report the model",
            )
        if error > largest:
            largest, worst = error, step.node.name
    return CutCheck(largest, noise, n_values, reference.removed, worst)


def _scale(reference: Tensor) -> float:
    """Largest finite entry, above zero."""
    largest = _magnitude(reference)
    if not math.isfinite(largest):
        largest = _magnitude(reference.masked_fill(reference.isinf(), 0.0))
    return max(largest, 1e-30)


def _difference(value: Tensor, reference: Tensor) -> float:
    """Largest difference in float64; inf for another shape."""
    if value.shape != reference.shape:
        return float("inf")
    reference = reference.double()
    if not value.is_floating_point():  # no difference is defined between truth values
        value = value.double()
    largest = _magnitude(value - reference)
    if not math.isfinite(largest):  # infinities on both sides, as a maximum pads, do not differ
        largest = _magnitude((value - reference).masked_fill(value == reference, 0.0))
    return largest


def _magnitude(value: Tensor) -> float:
    """Largest absolute entry; reads the memory once, where ``abs`` and ``max`` write it too."""
    if not value.numel():
        return 0.0
    low, high = value.aminmax()
    return max(-float(low), float(high))
