"""What a growing run comes to, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nnslim.growing.judging import Judged
from nnslim.measure.macs import Costs, count_costs
from nnslim.report.shown import Shown
from nnslim.report.table import Table

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.measure.accuracy import Accuracy
    from nnslim.network.network import Network
    from nnslim.run.stages import Record
    from nnslim.settings.budget import Metric
    from nnslim.settings.grow import GrowConfig

__all__ = ["GrowResult", "Round"]


@dataclass(frozen=True)
class Round:
    """One round of planting: what was tried and planted, and the network after it."""

    number: int  # 1 for the first
    group: str  # where channels were planted, or in how many groups
    count: int
    planted: Mapping[str, int]  # channels by group
    candidates: tuple[Record, ...]  # with gain and cost, in the order tried; plain JSON values
    judged: Judged
    costs: Costs
    widths: Mapping[str, int]  # of every group that is not frozen
    latency_share: float | None = None  # of the teacher's, where there is a budget for it

    @classmethod
    def of(cls, number: int, network: Network, channels: ChannelMap, record: Record) -> Round:
        """Return the round of which a stage left this network, with these groups, and record."""
        return cls(
            number,
            str(record["group"]),
            cast("int", record["count"]),
            cast("dict[str, int]", record["planted"]),
            tuple(cast("list[Record]", record["candidates"])),
            Judged.of(cast("Record", record["judged"])),
            count_costs(network),
            {group.name: group.width for group in channels.prunable},
            cast("float | None", record.get("latency_share")),
        )


@dataclass(frozen=True, repr=False)
class GrowResult(Shown):
    """A grown network and how it came about; what is judged is on the validation images."""

    network: Network  # polished if that was asked for
    config: GrowConfig  # resolved
    seed: Network
    seed_widths: Mapping[str, int]  # of every group that is not frozen
    seed_judged: Judged
    teacher_judged: Judged
    limits: Mapping[Metric, int]
    rounds: tuple[Round, ...]
    polished: Judged | None
    stopped: str  # why growing ended
    split: str  # the images of ``accuracies``
    accuracies: Mapping[str, Accuracy]  # of ``teacher``, ``seed``, ``grown`` and ``polished``
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Say how large the network is, how well it does, and why growing ended."""
        *_, last = self.accuracies.values()
        rounds = f"{len(self.rounds)} round" + "s" * (len(self.rounds) != 1)
        size = f"{self.network.n_parameters:,} parameters after {rounds}"
        return f"{size}, {self.split} top-1 {last.top1_pct:.2f} %; {self.stopped}"

    def tables(self) -> tuple[Table, ...]:
        """List the networks of the run with their accuracies."""
        rows = [
            [name, f"{own.top1_pct:.2f}", f"{own.n:,}"] for name, own in self.accuracies.items()
        ]
        return (Table.of("Grown", ["network", f">{self.split} top-1 %", ">images"], rows),)
