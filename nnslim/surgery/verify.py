"""Law 1 as a run-time check: the cut network equals the masked one, node by node.

The reference is the uncut network in which, at every contraction, the removed channels of the
input are zero, and in which a norm over cut channels runs on the kept ones. Both networks run in
float64 in lockstep; a value that differs anywhere is an error, not a warning.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from nnslim.channels import ChannelMap
from nnslim.channels.labels import Labels
from nnslim.errors import VerificationError
from nnslim.network.graph import BATCH, Node, Ref, TensorInfo
from nnslim.network.interpreter import Step
from nnslim.network.network import Network
from nnslim.surgery.edit import Cut, Edit, resolve_edit

__all__ = ["CutCheck", "verify_cut"]

_TOLERANCE = 1e-9
_CONTRACTIONS = frozenset(
    [f"aten.conv{d}d.{o}" for d in (1, 2, 3) for o in ("default", "padding")]
    + ["aten.linear.default", "aten.sum.default", "aten.sum.dim_IntList"]
)


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
    """One network on its way through its program."""

    def __init__(
        self, network: Network, inputs: dict[str, Tensor], dtype: torch.dtype, cut: Cut | None
    ) -> None:
        self.network = copy.deepcopy(network).cpu().to(dtype).eval()
        # A copy for each side, because an operator may write to its input.
        self.env: dict[str, object] = {
            key: value.to(dtype, copy=True) for key, value in inputs.items()
        }
        self.dtype = dtype
        self.cut = cut
        self.removed = 0.0

    def execute(self, step: Step) -> object:
        call = self._call if self.cut is None else self._masked
        return self.network.program.execute(step, self.network, self.env, torch.device("cpu"), call)

    def _masked(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        assert self.cut is not None
        source = step.node.args[0]
        labels = self.cut.channels.values.get(source.name) if isinstance(source, Ref) else None
        if labels is not None and step.node.op in _CONTRACTIONS:
            args[0] = self._zero_removed(cast("Tensor", args[0]), cast("Labels", labels))
        if labels is not None and step.node.op == "aten.layer_norm.default":
            return self._gathered_norm(step, args, kwargs, cast("Labels", labels))
        return self._call(step, args, kwargs)

    def _call(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        """Call an operator in this side's precision, whatever literals and defaults say."""
        args = [self.dtype if arg is torch.float32 else arg for arg in args]
        kwargs = {k: self.dtype if arg is torch.float32 else arg for k, arg in kwargs.items()}
        value = step.function(*args, **kwargs)
        if isinstance(value, Tensor) and value.dtype == torch.float32:
            return value.to(self.dtype)
        return value

    def _zero_removed(self, value: Tensor, labels: Labels) -> Tensor:
        assert self.cut is not None
        for dim, own in enumerate(labels):
            kept = self.cut.kept(own)
            if kept is not None and own is not None and len(kept) < own.size:
                mask = torch.zeros(own.size, dtype=torch.bool)
                mask[torch.from_numpy(kept)] = True
                shape = [-1 if d == dim else 1 for d in range(value.dim())]
                masked = value * mask.view(shape)
                self.removed = max(self.removed, float((value - masked).abs().max()))
                value = masked
        return value

    def _gathered_norm(
        self, step: Step, args: list[object], kwargs: dict[str, object], labels: Labels
    ) -> object:
        assert self.cut is not None
        value, rank = cast("Tensor", args[0]), len(cast("list[int]", args[1]))
        kept = [
            torch.arange(size) if (own := self.cut.kept(along)) is None else torch.from_numpy(own)
            for along, size in zip(labels[-rank:], value.shape[-rank:], strict=True)
        ]
        index = torch.meshgrid(kept, indexing="ij")
        gathered = [arg[index] if isinstance(arg, Tensor) else arg for arg in args[2:]]
        result = torch.zeros_like(value)
        shape = [len(own) for own in kept]
        result[(..., *index)] = cast(
            "Tensor", step.function(value[(..., *index)], shape, *gathered, **kwargs)
        )
        return result


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
            kept = self._kept(cast("Tensor", reference), wide.node)
            found = _difference(cast("Tensor", value), kept)
            noise = max(noise, _difference(self._kept(cast("Tensor", single), wide.node), kept))
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

    def _kept(self, value: Tensor, node: Node) -> Tensor:
        for dim, own in enumerate(cast("Labels", self.resolved.channels.values[node.name])):
            kept = self.resolved.kept(own)
            if kept is not None and own is not None and len(kept) < own.size:
                value = value.index_select(dim, torch.from_numpy(kept))
        return value


def _difference(value: Tensor, reference: Tensor) -> float:
    """Largest difference, relative to the largest entry of the reference; inf for another shape."""
    if value.shape != reference.shape:
        return float("inf")
    if not value.numel():
        return 0.0
    scale = max(float(reference.double().abs().max()), 1e-30)
    return float((value.double() - reference.double()).abs().max()) / scale
