"""One round of planting: propose, train every candidate, keep the best for its cost."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from nnslim.errors import NotFiniteError
from nnslim.growing.judging import Judge, Judged, added_cost, merit
from nnslim.growing.latency import added_microseconds, latency_share
from nnslim.growing.planting import plant
from nnslim.growing.screening import first_batch, first_order_gain
from nnslim.growing.training import PlantedEntries, calibrate
from nnslim.measure.macs import count_costs
from nnslim.processes import alone, barrier, from_main, rank, world_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from nnslim.channels import ChannelMap
    from nnslim.growing.candidates import Proposal
    from nnslim.growing.donor import Donor
    from nnslim.network.network import Network
    from nnslim.run.stages import Record, Stages
    from nnslim.run.trainer import Trainer
    from nnslim.settings.grow import GrowConfig
    from nnslim.surgery import Planted
    from nnslim.train.teaching import RememberingTeacher

__all__ = ["Planter", "RoundStart"]

# Number of the training of round 0; the seed and the polish have lower ones.
_FIRST_ROUND_STAGE = 10


@dataclass(frozen=True)
class RoundStart:
    """What all candidates of a round start from."""

    number: int
    network: Network  # what is planted into; left alone
    channels: ChannelMap
    judged: Judged

    @property
    def stage(self) -> int:
        """Number of the trainings of the round, which decides on the order of images."""
        return _FIRST_ROUND_STAGE + self.number


@dataclass(frozen=True)
class Planter:
    """Runs rounds for one run; the controls of a benchmark override ``choose`` or ``trainable``."""

    trainer: Trainer[GrowConfig]
    stages: Stages  # keeps finished candidates
    judge: Judge
    teacher: RememberingTeacher  # all candidates see the same images
    donor: Donor | None = None  # whose channels are planted

    @property
    def _config(self) -> GrowConfig:
        return self.trainer.config

    def try_all(
        self, start: RoundStart, proposals: list[Proposal], directory: Path | None
    ) -> tuple[Network, Record]:
        """Train every candidate and return the one that gained most for its cost."""
        stages = replace(self.stages, directory=directory)
        proposals = self.choose(start, proposals)
        self._share_out(stages, start, proposals)
        trained = [
            stages.run(_stage_of(index), partial(self._try, start, index, proposal))
            for index, proposal in enumerate(proposals)
        ]
        costs = self._costs(start.network, proposals, [candidate for candidate, _ in trained])
        tried = [
            (candidate, self._with_gain(record, start.judged, cost))
            for (candidate, record), cost in zip(trained, costs, strict=True)
        ]
        best, record = max(tried, key=_rank)
        chosen: Record = {key: record[key] for key in ("group", "count", "planted", "judged")}
        if self._config.latency is not None:
            teacher_network, device = self.trainer.teacher, self.trainer.context.device
            share, teacher_ms = from_main(lambda: latency_share(best, teacher_network, device))
            chosen |= {"latency_share": share, "teacher_ms": teacher_ms}
        barrier()  # the main process will clear the candidates away
        result: Record = {**chosen, "candidates": [record for _, record in tried]}
        self.trainer.note(f"round {start.number}", "round", **result)
        return best, result

    def choose(self, start: RoundStart, proposals: list[Proposal]) -> list[Proposal]:
        """The proposals that are trained: all, or the best by a first-order estimate."""
        most = self._config.candidates
        if most is None or most >= len(proposals):
            return proposals
        before, batch = count_costs(start.network), first_batch(self.trainer, start.stage)
        estimates = [
            first_order_gain(self._plant(start, proposal), batch)
            / added_cost(before, proposal.costs, self._config.per_cost)
            for proposal in proposals
        ]
        order = np.argsort(np.negative(estimates), kind="stable")[:most]
        return [proposals[index] for index in sorted(order.tolist())]

    def trainable(
        self, planted: Planted, start: RoundStart
    ) -> tuple[nn.Module, Callable[[], Network]]:
        """What of a planted network trains, and what makes a network of it afterwards."""
        entries = PlantedEntries(planted, onward=self._config.wiring == "onward")

        def finish() -> Network:
            images = self.trainer.images(start.stage)
            calibrate(entries, images, self._config.recalibrate_batches)
            return entries.write_back()

        return entries, finish

    def _plant(self, start: RoundStart, proposal: Proposal) -> Planted:
        """Plant a proposal; the same every time."""
        counts, channels = proposal.counts, start.channels
        names = [group.name for group in channels.groups]
        place = names.index(next(iter(counts))) if len(counts) == 1 else len(names)
        sequence = np.random.SeedSequence((self._config.seed, start.number, place))
        seed = int(sequence.generate_state(1)[0])
        return plant(start.network, channels, counts, seed=seed, donor=self.donor)

    def _try(
        self, start: RoundStart, index: int, proposal: Proposal, checkpoints: Path | None
    ) -> tuple[Network, Record]:
        """Plant, train what is new, give it statistics and judge the result."""
        began = time.perf_counter()
        student, finish = self.trainable(self._plant(start, proposal), start)
        n_trained = sum(parameter.numel() for parameter in student.parameters())
        failed: str | None = None
        try:
            self.trainer.train(
                student,
                self._config.training,
                f"round {start.number}, candidate {index + 1}: {proposal.place}",
                stage=start.stage,
                checkpoints=checkpoints,
                teacher=self.teacher,
                silent=True,
            )
        except NotFiniteError as error:
            failed = error.message
            _, finish = self.trainable(self._plant(start, proposal), start)
            self.trainer.context.sink.warn(f"{proposal.place} stays as planted: {failed}")
        network = finish()
        return network, {
            **proposal.to_json(),
            "trained_parameters": n_trained,
            "seconds": time.perf_counter() - began,
            "judged": asdict(self.judge(network)),
            "failed": failed,
        }

    def _costs(
        self, network: Network, proposals: list[Proposal], candidates: list[Network]
    ) -> list[float]:
        """What the gain of each candidate is divided by."""
        if self._config.per_cost == "latency":
            device = self.trainer.context.device
            return from_main(lambda: added_microseconds(network, candidates, device))
        before = count_costs(network)
        return [added_cost(before, p.costs, self._config.per_cost) for p in proposals]

    def _with_gain(self, record: Record, judged: Judged, cost: float) -> Record:
        """A candidate's record with what it gained on the network before it, also reported."""
        after = Judged.of(cast("Record", record["judged"]))
        gain = merit(after, self._config.gain) - merit(judged, self._config.gain)
        self.trainer.context.sink.detail(
            f"  {record['group']} +{record['count']}: top-1 {after.top1_pct:.2f} %,"
            f" loss {after.loss:.4f}, gain {gain:+.4f}"
        )
        return {**record, "gain": gain, "cost": cost, "gain_per_cost": gain / cost}

    def _share_out(self, stages: Stages, start: RoundStart, proposals: list[Proposal]) -> None:
        """Of several processes, train every n-th candidate in each; all find all on the disk."""
        process, size = rank(), world_size()
        if size == 1:
            return
        here = self
        if process > 0 and (folder := self.trainer.context.checkpoints) is not None:
            context = replace(self.trainer.context, checkpoints=folder / f"process-{process}")
            here = replace(self, trainer=replace(self.trainer, context=context))
        with alone():
            for index in range(process, len(proposals), size):
                compute = partial(here._try, start, index, proposals[index])
                stages.run(_stage_of(index), compute)
        barrier()


def _stage_of(index: int) -> str:
    return f"candidate-{index:02d}"


def _rank(tried: tuple[Network, Record]) -> float:
    """Where nothing gains, the least loss is best, whatever it costs."""
    _, record = tried
    key = "gain_per_cost" if cast("float", record["gain"]) > 0 else "gain"
    return cast("float", record[key])
