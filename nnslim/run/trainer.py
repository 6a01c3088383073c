"""What a run does with images: measure accuracy, calibrate batch norms, train."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch

from nnslim.data import Loader, Sampling
from nnslim.measure.accuracy import Accuracy, network_accuracy
from nnslim.processes import is_main
from nnslim.run.context import RunContext
from nnslim.run.events import EventLog
from nnslim.run.progress import ShowTraining, tell_all
from nnslim.sink import SILENT
from nnslim.train.batchnorm import Recalibration, recalibrate_batchnorm
from nnslim.train.checkpoint import Checkpoints, fingerprint
from nnslim.train.loop import fit
from nnslim.train.records import Callbacks
from nnslim.train.teaching import RememberingTeacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nnslim.data import Data, Preprocess
    from nnslim.network.network import Network
    from nnslim.settings.train import TrainConfig
    from nnslim.train.records import FitResult, GradientPenalty, TrainEvent

__all__ = ["EVENTS", "RunSettings", "Trainer"]

EVENTS = "events.jsonl"

_EVAL_BATCH = 500
_MOST_PIXELS = 3_200_000


class RunSettings(Protocol):
    """What every run says about its images."""

    @property
    def batch_size(self) -> int:
        """Images per training step."""
        ...

    @property
    def recalibrate_batches(self) -> int:
        """Training batches for new batch norm statistics."""
        ...

    @property
    def seed(self) -> int:
        """Of everything random."""
        ...


Settings = TypeVar("Settings", bound=RunSettings)


@dataclass(frozen=True)
class Trainer(Generic[Settings]):
    """The images and settings of one run.

    Attributes:
        teacher: Teaches where there is distillation; the dense network of a pruning run.
        data: The images.
        config: The run.
        context: Device, messages, checkpoints.
    """

    teacher: Network
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
        """Training images in batches; every stage of a run has an order of its own."""
        return Loader(
            self.data.train,
            self._preprocess,
            self.config.batch_size,
            sampling=Sampling(shuffle=True, seed=self.config.seed + stage, drop_last=True),
            augment=self.data.augment,
            workers=self.context.workers,
        )

    def some_images(self, most: int) -> torch.Tensor:
        """Training images as one batch on the device: so many, or fewer where they are large.

        At most 3.2 million pixels come: 64 images at 224 px.
        """
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
        augment, device = self.data.augment, self.context.device
        if not augment.repeats:
            return None
        teacher = RememberingTeacher(copy.deepcopy(self.teacher).to(device))
        images = Loader(
            self.data.train,
            self._preprocess,
            self.config.batch_size,
            augment=augment,
            workers=self.context.workers,
        )
        views = augment.views or 1
        with self.context.sink.progress("asking the teacher", views * len(images)) as progress:
            for view in range(views):
                images.set_epoch(view)
                for batch, _ in images:
                    teacher(batch.to(device))
                    progress.advance(1)
        return teacher

    def calibrate(self, network: Network) -> Recalibration:
        """Give a network new batch norm statistics, in place."""
        batches = self.config.recalibrate_batches
        return recalibrate_batchnorm(network.to(self.context.device), self.images(0), batches)

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
        followed: bool = True,
    ) -> FitResult:
        """Train a network in place, with its teacher.

        Args:
            network: The network.
            config: The training.
            label: What it is called in messages.
            stage: Number of the training in this run, for an order of images of its own.
            checkpoints: Where the training keeps its checkpoints.
            penalty: Added to the gradients.
            teacher: Stands in for the teacher, such as one that remembers its logits.
            followed: Whether every epoch is validated and told.
        """
        if teacher is None:
            teacher = copy.deepcopy(self.teacher)
            teacher = RememberingTeacher(teacher) if self.data.augment.repeats else teacher
        images = self.images(stage)
        voice = self.context.sink if followed else SILENT
        with self.context.sink.progress(label, config.epochs * len(images)) as progress:
            validated = followed and self.data.has("val")
            on_event = tell_all(ShowTraining(progress, voice), *self._logs(label))
            return fit(
                network,
                images,
                config,
                device=self.context.device,
                teacher=teacher if config.distill_weight > 0 else None,
                callbacks=Callbacks(self._evaluate if validated else None, on_event),
                checkpoints=Checkpoints(checkpoints),
                gradient_penalty=penalty,
            )

    def note(self, stage: str, kind: str, **values: object) -> None:
        """Write a record of a stage to the log of events, once: a resumed run writes no second."""
        for log in self._log():
            log.append_once(stage, kind, **values)

    def _logs(self, label: str) -> list[Callable[[TrainEvent], None]]:
        return [log.stage(label) for log in self._log()]

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
