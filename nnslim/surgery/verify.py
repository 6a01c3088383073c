"""Law 1 as a run-time check: the cut network equals the masked one, node by node.

The reference is the uncut network in which, at every contraction, the removed channels of the
input are zero, and in which a norm over cut channels runs on the kept ones. Both networks run in
float64 in lockstep; a value that differs anywhere is an error, not a warning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from nnslim.channels import ChannelMap
from nnslim.channels.contractions import contractions, statistics_dims
from nnslim.channels.labels import DimLabels, Labels
from nnslim.errors import VerificationError
from nnslim.network.graph import BATCH, Arg, Node, Ref, TensorInfo, TensorRef
from nnslim.network.interpreter import Step
from nnslim.network.network import Network
from nnslim.surgery.edit import Cut, Edit, resolve_edit

__all__ = ["CutCheck", "kept_entries", "verify_cut"]

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
    with torch.inference_mode():
        return _Lockstep(original, cut, resolved, inputs).run()


class _Side:
    """One network on its way through its program, in a precision of its own.

    It is the program's runtime: a tensor is converted when a node asks for it, so that checking a
    network costs no second copy of its weights.
    """

    training = False

    def __init__(
        self, network: Network, inputs: dict[str, Tensor], dtype: torch.dtype, cut: Cut | None
    ) -> None:
        self.network = network
        # A copy for each side, because an operator may write to its input.
        self.env: dict[str, object] = {
            key: value.to(dtype, copy=True) for key, value in inputs.items()
        }
        self.dtype = dtype
        self.cut = cut
        self.removed = 0.0

    def tensor(self, name: str) -> Tensor:
        """Return a copy of a parameter or buffer, on the CPU and in this side's precision."""
        tensor = self.network.tensor(name).detach()
        dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to("cpu", dtype, copy=True)

    def execute(self, step: Step) -> object:
        """Run one step."""
        call = self._call if self.cut is None else self._masked
        return self.network.program.execute(step, self, self.env, torch.device("cpu"), call)

    def _masked(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        node = step.node
        if self._statistics(node):
            return self._gathered(step, args, kwargs)
        summed = contractions(node, self._shape)
        if not summed:
            return self._call(step, args, kwargs)
        given = step.by_name(args, kwargs)
        for place in summed:
            zeroed = partial(self._zeroed, place.operand.of(node), place.dims)
            place.operand.update(given, zeroed)
        return self._call(step, [], given)

    def _shape(self, arg: Arg) -> tuple[int, ...]:
        if isinstance(arg, Ref):
            return tuple(cast("Tensor", self.env[arg.name]).shape)
        assert isinstance(arg, TensorRef)
        return tuple(self.network.tensor(arg.name).shape)

    def _labels(self, arg: Arg) -> Labels | None:
        assert self.cut is not None
        if isinstance(arg, TensorRef):
            return self.cut.channels.tensors.get(arg.name)
        values = self.cut.channels.values
        return cast("Labels | None", values.get(arg.name)) if isinstance(arg, Ref) else None

    def _removed(self, labels: Labels | None, dim: int) -> Tensor | None:
        """What stays of a dimension that loses something, else None."""
        assert self.cut is not None
        own = None if labels is None else labels[dim]
        kept = self.cut.kept(own)
        if own is None or kept is None or len(kept) == own.size:
            return None
        return torch.from_numpy(kept)

    def _call(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        """Call an operator in this side's precision, whatever literals and defaults say."""
        args = [self.dtype if arg is torch.float32 else arg for arg in args]
        kwargs = {k: self.dtype if arg is torch.float32 else arg for k, arg in kwargs.items()}
        value = step.function(*args, **kwargs)
        if isinstance(value, Tensor) and value.dtype == torch.float32:
            return value.to(self.dtype)
        return value

    def _zeroed(self, arg: Arg, dims: Sequence[int], value: Tensor) -> Tensor:
        """The operand with its removed channels zeroed along the dimensions that are summed."""
        labels, masked = self._labels(arg), value
        for dim in dims:
            kept = self._removed(labels, dim)
            if kept is not None:
                mask = torch.zeros(value.shape[dim], dtype=value.dtype).index_fill(0, kept, 1.0)
                masked = masked * mask.view([-1 if d == dim else 1 for d in range(value.dim())])
        if masked is not value:
            self.removed = max(self.removed, float((value - masked).abs().max()))
        return masked

    def _statistics(self, node: Node) -> bool:
        """Whether a norm or reduction runs over channels of which some were removed."""
        labels = self._labels(node.operand)
        if labels is not None and node.family == "group_norm":
            return self._parts_of_groups(labels[1], cast("int", node.argument("num_groups")))
        dims = statistics_dims(node, self._shape)
        return any(self._removed(labels, dim) is not None for dim in dims)

    def _parts_of_groups(self, channels: DimLabels, groups: int) -> bool:
        """Whether some norm group lost a part; the statistics of whole ones do not change."""
        assert self.cut is not None
        if channels is None:
            return False
        alive = self.cut.alive[self.cut.channels.component[channels]].reshape(groups, -1)
        return bool((alive.any(axis=1) & ~alive.all(axis=1)).any())

    def _gathered(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        """Run an operator on what is left of its operands, whatever the cut network's sizes say."""
        assert self.cut is not None
        left = {
            name: self._left(step.node.argument(name), value)
            for name, value in step.by_name(args, kwargs).items()
        }
        if step.node.family == "layer_norm":
            n_dims = len(cast("Sequence[int]", left["normalized_shape"]))
            left["normalized_shape"] = list(cast("Tensor", left["input"]).shape[-n_dims:])
        value = self._call(step, [], left)
        labels = self.cut.channels.values[step.node.name]
        if isinstance(value, Tensor):
            return self._spread(value, cast("Labels", labels))
        pairs = zip(cast("Sequence[Tensor]", value), cast("Sequence[Labels]", labels), strict=True)
        return [self._spread(item, own) for item, own in pairs]

    def _left(self, arg: Arg, value: object) -> object:
        labels = self._labels(arg)
        if not isinstance(value, Tensor) or labels is None:
            return value
        for dim in range(value.dim()):
            kept = self._removed(labels, dim)
            if kept is not None:
                gone = torch.ones(value.shape[dim], dtype=torch.bool).index_fill(
                    0, kept, value=False
                )
                lost = value.index_select(dim, gone.nonzero().flatten())
                if isinstance(arg, Ref):  # not a weight of the norm
                    self.removed = max(self.removed, float(lost.abs().max()))
                value = value.index_select(dim, kept)
        return value

    def _spread(self, value: Tensor, labels: Labels) -> Tensor:
        """Put what is left back in its place, with zeros between."""
        for dim, own in enumerate(labels):
            kept = self._removed(labels, dim)
            if kept is not None and own is not None:
                shape = [own.size if d == dim else s for d, s in enumerate(value.shape)]
                value = value.new_zeros(shape).index_copy(dim, kept, value)
        return value


class _Lockstep:
    """The reference in float64 and float32, and the cut network, one node at a time."""

    def __init__(
        self, original: Network, cut: Network, resolved: Cut, inputs: dict[str, Tensor]
    ) -> None:
        self.resolved = resolved
        self.reference = _Side(original, inputs, torch.float64, resolved)
        self.single = _Side(original, inputs, torch.float32, resolved)
        self.cut = _Side(cut, inputs, torch.float64, None)

    def run(self) -> CutCheck:
        error, noise, n_values, worst = 0.0, 0.0, 0, ""
        steps = zip(
            self.reference.network.program.steps, self.cut.network.program.steps, strict=True
        )
        for wide, narrow in steps:
            reference, single, value = (
                self.reference.execute(wide),
                self.single.execute(wide),
                self.cut.execute(narrow),
            )
            if not isinstance(wide.node.value, TensorInfo):
                continue
            kept = self._kept(reference, wide.node)
            scale = _scale(kept)
            found = _difference(cast("Tensor", value), kept) / scale
            rounded = self._kept(single, wide.node)
            noise = max(noise, _difference(rounded, kept) / scale)
            n_values += 1
            if not found <= _TOLERANCE:
                raise VerificationError(
                    f"the cut network differs from the masked one by {found:.2e}"
                    f" (limit {_TOLERANCE:.0e})"
                    f" at {wide.node.name!r}, {wide.node.place}",
                    hint="nothing was written; please report the model",
                )
            if found > error:
                error, worst = found, wide.node.name
        return CutCheck(error, noise, n_values, self.reference.removed, worst)

    def _kept(self, value: object, node: Node) -> Tensor:
        labels = cast("Labels", self.resolved.channels.values[node.name])
        return kept_entries(cast("Tensor", value), labels, self.resolved)


def kept_entries(value: Tensor, labels: Labels, cut: Cut) -> Tensor:
    """What a cut leaves of a value whose dimensions carry these labels."""
    for dim, own in enumerate(labels):
        kept = cut.kept(own)
        if kept is not None and own is not None and len(kept) < own.size:
            value = value.index_select(dim, torch.from_numpy(kept).to(value.device))
    return value


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
