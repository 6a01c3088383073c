"""One round of planting: propose, train every candidate, keep the best for its cost."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from nnslim.channels import channel_groups
from nnslim.errors import NotFiniteError
from nnslim.growing.judging import Judge, Judged, merit
from nnslim.growing.latency import added_microseconds, latency_share
from nnslim.growing.planting import plant
from nnslim.growing.screening import Batch, Site, best_channels, first_order_gain, gradmax_channels
from nnslim.growing.training import PlantedEntries, calibrate
from nnslim.measure.macs import Costs, count_costs
from nnslim.processes import alone, barrier, from_main, rank, world_size
from nnslim.train.teaching import RememberingTeacher

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.channels import ChannelMap
    from nnslim.growing.candidates import Proposal
    from nnslim.growing.donor import Donor
    from nnslim.network.network import Network
    from nnslim.run.stages import Record, Stages
    from nnslim.run.trainer import Trainer
    from nnslim.settings.grow import GrowConfig
    from nnslim.surgery import Planted

__all__ = ["Planter"]

# Number of the training of round 0; the seed and the polish have lower ones.
_FIRST_ROUND_STAGE = 10


@dataclass(frozen=True)
class Planter:
    """Runs rounds for one run.

    Attributes:
        trainer: The images, the teacher and the settings.
        stages: Keeps finished candidates.
        judge: Judges them.
        teacher: Remembers its logits over the whole run, where images come again; None remembers
            them for a round, whose candidates see the same images.
        donor: The network whose channels are planted, if any.
    """

    trainer: Trainer[GrowConfig]
    stages: Stages
    judge: Judge
    teacher: RememberingTeacher | None = None
    donor: Donor | None = None

    @property
    def _config(self) -> GrowConfig:
        return self.trainer.config

    def try_all(
        self,
        number: int,
        network: Network,
        judged: Judged,
        proposals: list[Proposal],
        directory: Path | None,
    ) -> tuple[Network, Record]:
        """Train every candidate and return the one that gained most for its cost."""
        config, before = self._config, count_costs(network)
        teacher = self.teacher or RememberingTeacher(copy.deepcopy(self.trainer.teacher))
        stages = replace(self.stages, directory=directory)
        proposals = self._chosen(number, network, proposals)
        self._share_out(stages, number, network, proposals, teacher)
        trained = [
            stages.run(_stage_of(i), partial(self._try, number, i, network, proposal, teacher))
            for i, proposal in enumerate(proposals)
        ]
        costs = [_cost(config, before, proposal.costs) for proposal in proposals]
        if config.per_cost == "latency":
            networks, device = [own for own, _ in trained], self.trainer.context.device
            costs = from_main(lambda: added_microseconds(network, networks, device))
        tried: list[tuple[Network, Record]] = []
        for (candidate, record), cost in zip(trained, costs, strict=True):
            after = Judged(**cast("dict[str, float]", record["judged"]))
            gain = merit(after, config.gain) - merit(judged, config.gain)
            entry: Record = {**record, "gain": gain, "cost": cost, "gain_per_cost": gain / cost}
            tried.append((candidate, entry))
            self.trainer.context.sink.detail(
                f"  {record['group']} +{record['count']}: top-1 {after.top1_pct:.2f} %,"
                f" loss {after.loss:.4f}, gain {gain:+.4f}"
            )
        # Where nothing gains, the least loss is best, whatever it costs.
        best = max(
            tried,
            key=lambda pair: cast(
                "float", pair[1]["gain_per_cost" if cast("float", pair[1]["gain"]) > 0 else "gain"]
            ),
        )
        chosen: Record = {key: best[1][key] for key in ("group", "count", "planted", "judged")}
        if config.latency is not None:
            other, device = self.trainer.teacher, self.trainer.context.device
            share, teacher_ms = from_main(lambda: latency_share(best[0], other, device))
            chosen |= {"latency_share": share, "teacher_ms": teacher_ms}
        barrier()  # the main process will clear the candidates away
        found: Record = {**chosen, "candidates": [record for _, record in tried]}
        self.trainer.note(f"round {number}", "round", **found)
        return best[0], found

    def _chosen(self, number: int, network: Network, proposals: list[Proposal]) -> list[Proposal]:
        """The proposals that are trained: all, a random one, or the best by a cheap estimate."""
        config = self._config
        if config.choice == "random":
            generator = np.random.default_rng((config.seed, number))
            return [proposals[int(generator.integers(len(proposals)))]]
        if config.candidates is None or config.candidates >= len(proposals):
            return proposals
        before, channels = count_costs(network), channel_groups(network)
        batch = self._one_batch(number)
        estimates: list[float] = []
        for proposal in proposals:
            planted = self._plant(number, network, channels, proposal)
            gain = first_order_gain(planted, batch)
            estimates.append(gain / _cost(config, before, proposal.costs))
        order = np.argsort(np.negative(estimates), kind="stable")[: config.candidates]
        return [proposals[index] for index in sorted(order.tolist())]

    def _one_batch(self, number: int) -> Batch:
        images, labels = next(iter(self.trainer.images(_FIRST_ROUND_STAGE + number)))
        loss, device = self._config.train.loss, self.trainer.context.device
        images, taught = images.to(device), None
        if loss.distill_weight > 0:
            with torch.no_grad():
                taught = cast("torch.Tensor", self.trainer.teacher.to(device).eval()(images))
        return Batch(images, labels.to(device), taught, loss)

    def _plant(
        self, number: int, network: Network, channels: ChannelMap, proposal: Proposal
    ) -> Planted:
        """Plant a proposal; the same every time."""
        config, counts = self._config, proposal.counts
        names = [group.name for group in channels.groups]
        place = names.index(next(iter(counts))) if len(counts) == 1 else len(names)
        seed = int(np.random.SeedSequence((config.seed, number, place)).generate_state(1)[0])
        if config.initialisation in {"screened", "gradmax"}:
            batch, (group,) = self._one_batch(number), counts
            screened = config.initialisation == "screened"
            choose = best_channels if screened else gradmax_channels
            return choose(Site(network, channels, group, counts[group], seed), batch)
        start = config.initialisation or "random"
        return plant(network, channels, counts, initialisation=start, seed=seed, donor=self.donor)

    def _try(  # noqa: PLR0913, PLR0917 - one candidate of one round
        self,
        number: int,
        index: int,
        network: Network,
        proposal: Proposal,
        teacher: RememberingTeacher,
        checkpoints: Path | None,
    ) -> tuple[Network, Record]:
        """Plant, train what is new, give it statistics and judge the result."""
        began = time.perf_counter()
        stage = _FIRST_ROUND_STAGE + number
        failed: str | None = None

        def prepared() -> Network | PlantedEntries:
            planted = self._plant(number, network, channel_groups(network), proposal)
            onward = self._config.wiring == "onward"
            frozen = self._config.frozen
            return PlantedEntries(planted, onward=onward) if frozen else planted.network

        student = prepared()
        trained = sum(parameter.numel() for parameter in student.parameters())
        try:
            self.trainer.train(
                student,
                self._config.train,
                f"round {number}, candidate {index + 1}: {proposal.place}",
                stage=stage,
                checkpoints=checkpoints,
                teacher=teacher,
                followed=False,
            )
        except NotFiniteError as error:
            failed, student = error.message, prepared()
            self.trainer.context.sink.warn(f"{proposal.place} stays as planted: {failed}")
        if isinstance(student, PlantedEntries):
            calibrate(student, self.trainer.images(stage), self._config.recalibrate_batches)
            student = student.write_back()
        return student, {
            "group": proposal.place,
            "count": proposal.count,
            "planted": dict(proposal.counts),
            "width": proposal.width,
            "params": proposal.costs.params,
            "macs": proposal.costs.macs,
            "trained_parameters": trained,
            "seconds": time.perf_counter() - began,
            "judged": asdict(self.judge(student)),
            "failed": failed,
        }

    def _share_out(
        self,
        stages: Stages,
        number: int,
        network: Network,
        proposals: list[Proposal],
        teacher: RememberingTeacher,
    ) -> None:
        """Of several processes, train every n-th candidate in each; all find all on the disk."""
        own, size = rank(), world_size()
        if size == 1:
            return
        here = self
        if own > 0 and (folder := self.trainer.context.checkpoints) is not None:
            context = replace(self.trainer.context, checkpoints=folder / f"process-{own}")
            here = replace(self, trainer=replace(self.trainer, context=context))
        with alone():
            for index in range(own, len(proposals), size):
                compute = partial(here._try, number, index, network, proposals[index], teacher)
                stages.run(_stage_of(index), compute)
        barrier()


def _stage_of(index: int) -> str:
    return f"candidate-{index:02d}"


def _cost(config: GrowConfig, before: Costs, after: Costs) -> float:
    match config.per_cost:
        case "params":
            return float(max(after.params - before.params, 1))
        case "macs" | "latency":  # latency is measured once a candidate is there
            return float(max(after.macs - before.macs, 1))
        case "none":
            return 1.0
