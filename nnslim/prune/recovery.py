"""What follows a removal: measure, new batch norm statistics, fine-tuning, measure again."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from nnslim.data import Loader
from nnslim.measure.accuracy import Accuracy, network_accuracy
from nnslim.report import SILENT, Progress, Sink
from nnslim.train import FitResult, Recalibration, fit, recalibrate_batchnorm

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.data import Data, Preprocess, Split
    from nnslim.network.network import Network
    from nnslim.prune.config import PruneConfig
    from nnslim.train import TrainEvent

__all__ = ["Accuracies", "Recovery", "Surroundings"]

_EVAL_BATCH = 500


@dataclass(frozen=True)
class Surroundings:
    """Where a run happens, which does not change its result on the CPU.

    Attributes:
        device: Where to compute.
        sink: Where messages and progress go.
        checkpoints: Where training keeps its checkpoints; None keeps none.
        workers: Processes that decode image files.
    """

    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    sink: Sink = SILENT
    checkpoints: Path | None = None
    workers: int = 0


@dataclass(frozen=True)
class Accuracies:
    """Accuracy along the way, on the test images or on the validation images in their place."""

    dense: Accuracy
    removed: Accuracy
    recalibrated: Accuracy | None
    final: Accuracy
    split: str


@dataclass(frozen=True)
class Recovery:
    """The recovery of one cut network, which changes in place.

    Attributes:
        dense: The network before the cut; the teacher where there is distillation.
        cut: The cut network.
        data: The images.
        config: The pruning run.
        around: Device, messages, checkpoints.
    """

    dense: Network
    cut: Network
    data: Data
    config: PruneConfig
    around: Surroundings

    def run(self) -> tuple[Accuracies, Recalibration | None, FitResult | None]:
        """Measure, recalibrate, fine-tune and measure again."""
        say, name = self.around.sink.info, "test" if self.data.has("test") else "val"
        score = partial(self._accuracy, self.data.test if name == "test" else self.data.val)
        train = self._training_images()
        dense, removed = score(self.dense), score(self.cut)
        say(
            f"top-1 on {dense.n} {name} images: {dense.top1_pct:.2f}% dense,"
            f" {removed.top1_pct:.2f}% right after the removal"
        )
        recalibration = recalibrated = training = None
        if self.config.recalibrate_batches:
            recalibration = recalibrate_batchnorm(self.cut, train, self.config.recalibrate_batches)
            recalibrated = score(self.cut)
            say(f"top-1 {recalibrated.top1_pct:.2f}% with new batch norm statistics")
        final = recalibrated or removed
        if self.config.train.epochs:
            training = self._fine_tune(train)
            final = score(self.cut)
            say(f"top-1 {final.top1_pct:.2f}% after {training.epochs} epochs of fine-tuning")
        return Accuracies(dense, removed, recalibrated, final, name), recalibration, training

    @property
    def _preprocess(self) -> Preprocess:
        return self.dense.preprocess or self.data.preprocess

    def _training_images(self) -> Loader:
        return Loader(
            self.data.train,
            self._preprocess,
            self.config.batch_size,
            shuffle=True,
            augment=self.data.augment,
            seed=self.config.seed,
            drop_last=True,
            workers=self.around.workers,
        )

    def _accuracy(self, split: Split, network: torch.nn.Module) -> Accuracy:
        device = self.around.device
        loader = Loader(split, self._preprocess, _EVAL_BATCH, workers=self.around.workers)
        return network_accuracy(network.to(device), loader, device)

    def _validation_top1(self, network: torch.nn.Module) -> float:
        return self._accuracy(self.data.val, network).top1_pct

    def _fine_tune(self, train: Loader) -> FitResult:
        config, around = self.config.train, self.around
        teacher = copy.deepcopy(self.dense) if config.distill_weight > 0 else None
        with around.sink.progress("fine-tuning", config.epochs * len(train)) as progress:
            return fit(
                self.cut,
                train,
                config,
                device=around.device,
                teacher=teacher,
                evaluate=self._validation_top1 if self.data.has("val") else None,
                on_event=partial(_show, progress, around.sink),
                checkpoint_dir=around.checkpoints,
            )


def _show(progress: Progress, sink: Sink, event: TrainEvent) -> None:
    record = event.record
    if event.kind == "step":
        progress.advance(1, f"epoch {event.epoch}/{event.epochs} loss {event.loss:.3f}")
    elif record is not None:
        val = "" if record.val_top1 is None else f", validation top-1 {record.val_top1:.2f}%"
        sink.info(
            f"epoch {record.epoch}/{event.epochs}: loss {record.loss:.4f}, training top-1"
            f" {record.train_top1:.2f}%{val}, {record.seconds:.0f} s"
        )
    elif event.note is not None:
        sink.info(event.note)
