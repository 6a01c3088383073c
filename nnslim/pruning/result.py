"""What a pruning run comes to, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nnslim.report.shown import Shown
from nnslim.report.table import Table

if TYPE_CHECKING:
    from nnslim.measure.accuracy import Accuracy
    from nnslim.network.network import Network
    from nnslim.pruning.plans.plan import Plan
    from nnslim.settings.prune import PruneConfig
    from nnslim.surgery import CutCheck
    from nnslim.train import EpochRecord

__all__ = ["Epochs", "PruneResult", "StageResult"]


@dataclass(frozen=True)
class StageResult:
    """The network after one stage."""

    stage: str  # dense, sparse, cut, refitted, calibrated, recovered or tuned
    round: int  # of the removal, 1 for the first; 0 before it
    params: int
    macs: int
    val_top1_pct: float | None  # on the validation images
    taken_back: bool = False  # it cost too much accuracy, and the run went on from before it


@dataclass(frozen=True)
class Epochs:
    """The epochs of one training in the run."""

    stage: str
    records: tuple[EpochRecord, ...]


@dataclass(frozen=True, repr=False)
class PruneResult(Shown):
    """A pruned network, what was removed, and what every stage left behind."""

    network: Network  # in eval mode
    config: PruneConfig  # resolved
    plan: Plan  # all rounds together
    layers: tuple[dict[str, object], ...]  # of the dense network, with widths before and after
    checks: tuple[CutCheck, ...]  # of each round: the cut network equals the masked one
    split: str | None = None  # the images of ``accuracies``: test, or val in its place
    accuracies: dict[str, Accuracy] | None = None  # by stage, the last of its kind
    stages: tuple[StageResult, ...] = ()
    training: tuple[Epochs, ...] = ()
    warnings: tuple[str, ...] = ()
    planned: Mapping[str, object] = field(default_factory=dict)  # see ``Planned.to_json``

    def summary(self) -> str:
        """Say what remains, and the accuracy before and after where it was measured."""
        before, after = self.plan.before, self.plan.after
        costs = f"{after.params:,} of {before.params:,} parameters, {after.macs:,} of"
        costs = f"{costs} {before.macs:,} MACs"
        if not self.accuracies:
            return costs
        *_, last = self.accuracies.values()
        dense = self.accuracies["dense"].top1_pct
        return f"{costs}, {self.split} top-1 {dense:.2f} -> {last.top1_pct:.2f} %"

    def tables(self) -> tuple[Table, ...]:
        """List every stage with its costs and accuracies."""
        accuracies = self.accuracies or {}
        rows = [
            [
                f"{stage.stage} {stage.round or ''}".strip(),
                f"{stage.params:,}",
                f"{stage.macs:,}",
                "" if stage.val_top1_pct is None else f"{stage.val_top1_pct:.2f}",
                f"{accuracies[stage.stage].top1_pct:.2f}" if stage.stage in accuracies else "",
            ]
            for stage in self.stages
        ]
        ends = (("dense", self.plan.before), ("pruned", self.plan.after))
        rows = rows or [[name, f"{c.params:,}", f"{c.macs:,}", "", ""] for name, c in ends]
        headings = ["stage", ">parameters", ">MACs", ">validation %", f">{self.split or 'test'} %"]
        return (Table.of("Pruned", headings, rows),)
