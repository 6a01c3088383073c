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
    """The network after one stage.

    Attributes:
        stage: ``dense``, ``sparse``, ``cut``, ``refitted``, ``calibrated``, ``recovered`` or
            ``tuned``.
        round: Of the removal, 1 for the first; 0 before it.
        params: Its parameters.
        macs: Its MACs.
        val_top1_pct: On the validation images, or None.
        taken_back: Whether the run went on from before it, which cost too much accuracy.
    """

    stage: str
    round: int
    params: int
    macs: int
    val_top1_pct: float | None
    taken_back: bool = False


@dataclass(frozen=True)
class Epochs:
    """The epochs of one training in the run."""

    stage: str
    records: tuple[EpochRecord, ...]


@dataclass(frozen=True, repr=False)
class PruneResult(Shown):
    """What a run made.

    Attributes:
        network: The pruned network, in eval mode.
        config: The settings of the run, resolved.
        plan: What was removed, all rounds together.
        layers: The layers of the dense network with their widths before and after.
        checks: The proof of each round that the cut network equals the masked one.
        split: The images that ``accuracies`` were measured on: ``test``, or ``val`` in its place.
        accuracies: By stage: ``dense``, ``sparse``, ``cut`` (right after the last removal),
            ``refitted`` or ``calibrated``, ``tuned``; measured in the end; empty without data.
        stages: What every stage left behind.
        training: The epochs of every training.
        warnings: What the user should know.
        planned: How the last removal was planned: a latency search, a choice of alignment.
    """

    network: Network
    config: PruneConfig
    plan: Plan
    layers: tuple[dict[str, object], ...]
    checks: tuple[CutCheck, ...]
    split: str | None = None
    accuracies: dict[str, Accuracy] | None = None
    stages: tuple[StageResult, ...] = ()
    training: tuple[Epochs, ...] = ()
    warnings: tuple[str, ...] = ()
    planned: Mapping[str, object] = field(default_factory=dict)

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
                f"{own.stage} {own.round or ''}".strip(),
                f"{own.params:,}",
                f"{own.macs:,}",
                "" if own.val_top1_pct is None else f"{own.val_top1_pct:.2f}",
                f"{accuracies[own.stage].top1_pct:.2f}" if own.stage in accuracies else "",
            ]
            for own in self.stages
        ]
        plan = [["dense", self.plan.before], ["pruned", self.plan.after]]
        rows = rows or [[name, f"{c.params:,}", f"{c.macs:,}", "", ""] for name, c in plan]
        headings = ["stage", ">parameters", ">MACs", ">validation %", f">{self.split or 'test'} %"]
        return (Table.of("Pruned", headings, rows),)
