"""What a run does with images: measure accuracy, calibrate batch norms, train."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from nnslim.data import Loader, Sampling
from nnslim.measure.accuracy import Accuracy, network_accuracy
from nnslim.processes import is_main
from nnslim.run.context import RunContext
from nnslim.run.events import EventLog
from nnslim.run.progress import ShowTraining, in_turn
from nnslim.sink import SILENT
from nnslim.train.batchnorm import recalibrate_batchnorm
from nnslim.train.checkpoint import Checkpoints, fingerprint
from nnslim.train.loop import fit
from nnslim.train.records import Callbacks
from nnslim.train.teaching import RememberingTeacher

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.data import Data, Preprocess
    from nnslim.network.network import Network
    from nnslim.settings.grow import GrowConfig
    from nnslim.settings.prune import PruneConfig
    from nnslim.settings.train import TrainConfig
    from nnslim.train.records import FitResult, GradientPenalty

__all__ = ["EVENTS", "Trainer"]

EVENTS = "events.jsonl"

_EVAL_BATCH = 500
_MOST_PIXELS = 3_200_000


Settings = TypeVar("Settings", bound="PruneConfig | GrowConfig")


@dataclass(frozen=True)
class Trainer(Generic[Settings]):
    """The images and settings of one run."""

    teacher: Network  # the dense network of a pruning run
    data: Data
    config: Settings
    context: RunContext

    def identity(self) -> dict[str, object]:
        """What another run with the same settings may differ in, by readable name: JSON values."""
        splits = self.data.splits
        return {
            "teacher": fingerprint(self.teacher),
            "training images": splits["train"].fingerprint if "train" in splits else None,
            "validation images": splits["val"].fingerprint if "val" in splits else None,
            "preprocessing": self._preprocess.to_json(),
            "augmentation": asdict(self.data.augment),
        }

    def accuracy(self, network: torch.nn.Module, split: str) -> Accuracy:
        """Measure a network on the images of ``train``, ``val`` or ``test``."""
        device = self.context.device
        return network_accuracy(network.to(device), self.still_images(split), device)

    def still_images(self, split: str) -> Loader:
        """Images in order and as they are, in batches."""
        images = self.data.splits[split]
        return Loader(images, self._preprocess, _EVAL_BATCH, workers=self.context.workers)

    def validation_top1(self, network: torch.nn.Module) -> float | None:
        """Top-1 in percent on the validation images; None where there are none."""
        return self.accuracy(network, "val").top1_pct if self.data.has("val") else None

    def images(self, stage: int) -> Loader:
        """Training images in batches; every stage of a run has another order."""
        return Loader(
            self.data.train,
            self._preprocess,
            self.config.batch_size,
            sampling=Sampling(shuffle=True, seed=self.config.seed + stage, drop_last=True),
            augment=self.data.augment,
            workers=self.context.workers,
        )

    def some_images(self, most: int) -> torch.Tensor:
        """Training images as one batch on the device: so many, or 64 of 224 px and their like."""
        parts: list[torch.Tensor] = []
        for images, _ in self.images(0):
            most = min(most, max(_MOST_PIXELS // images[0, 0].numel(), 1))
            parts.append(images[: most - sum(len(part) for part in parts)])
            if sum(len(part) for part in parts) >= most:
                break
        return torch.cat(parts).to(self.context.device)

    def remembering_teacher(self) -> RememberingTeacher | None:
        """Return a teacher that has seen all training images; None where new ones come every epoch.

        It sees them in one fixed order, so that its logits do not depend on where a run resumed.
        """
        augment, context = self.data.augment, self.context
        if not augment.repeats:
            return None
        teacher = RememberingTeacher(copy.deepcopy(self.teacher).to(context.device))
        size, views = self.config.batch_size, augment.views or 1
        images = Loader(
            self.data.train, self._preprocess, size, augment=augment, workers=context.workers
        )
        with context.sink.progress("asking the teacher", views * len(images)) as progress:
            for view in range(views):
                images.set_epoch(view)
                for batch, _ in images:
                    teacher(batch.to(context.device))
                    progress.advance(1)
        return teacher

    def calibrate(self, network: Network) -> None:
        """Give a network new batch norm statistics, in place."""
        batches = self.config.recalibrate_batches
        recalibrate_batchnorm(network.to(self.context.device), self.images(0), batches)

    def train(  # noqa: PLR0913 - what differs between the trainings of a run
        self,
        network: torch.nn.Module,
        config: TrainConfig,
        label: str,
        *,
        stage: int,
        checkpoints: Path | None,
        penalty: GradientPenalty | None = None,
        teacher: torch.nn.Module | None = None,
        silent: bool = False,
    ) -> FitResult:
        """Train a network in place, with its teacher; the log of events calls it by its label.

        ``stage`` decides on its order of images, ``penalty`` is added to the gradients, and
        ``teacher`` stands in for the run's. A ``silent`` one is not validated at every epoch.
        """
        if teacher is None:
            teacher = copy.deepcopy(self.teacher)
            teacher = RememberingTeacher(teacher) if self.data.augment.repeats else teacher
        images, sink = self.images(stage), self.context.sink
        with sink.progress(label, config.epochs * len(images)) as progress:
            shown = ShowTraining(progress, SILENT if silent else sink)
            evaluate = None if silent or not self.data.has("val") else self._evaluate
            on_event = in_turn(shown, *(log.stage(label) for log in self._log()))
            return fit(
                network,
                images,
                config,
                device=self.context.device,
                teacher=teacher if config.distill_weight > 0 else None,
                callbacks=Callbacks(evaluate, on_event),
                checkpoints=Checkpoints(checkpoints),
                gradient_penalty=penalty,
            )

    def note(self, stage: str, kind: str, **values: object) -> None:
        """Write a record of a stage to the log of events, once: a resumed run writes no second."""
        for log in self._log():
            log.append_once(stage, kind, **values)

    def _log(self) -> list[EventLog]:
        folder = self.context.checkpoints
        if folder is None or not is_main():
            return []
        folder.mkdir(parents=True, exist_ok=True)
        return [EventLog(folder / EVENTS)]

    @property
    def _preprocess(self) -> Preprocess:
        return self.teacher.preprocess or self.data.preprocess

    def _evaluate(self, network: torch.nn.Module) -> float:
        return self.accuracy(network, "val").top1_pct
