"""Training: the loop, its configuration, checkpoints, and batch norm recalibration."""

from __future__ import annotations

from nnslim.settings.train import Precision, Schedule, TrainConfig
from nnslim.train.batchnorm import Recalibration, recalibrate_batchnorm
from nnslim.train.checkpoint import Checkpoints
from nnslim.train.loop import fit
from nnslim.train.optimizer import learning_rate, split_by_decay
from nnslim.train.records import (
    BatchLoader,
    Callbacks,
    EpochRecord,
    FitResult,
    GradientPenalty,
    TrainEvent,
)
from nnslim.train.runtime import flush_denormals

__all__ = [
    "BatchLoader",
    "Callbacks",
    "Checkpoints",
    "EpochRecord",
    "FitResult",
    "GradientPenalty",
    "Precision",
    "Recalibration",
    "Schedule",
    "TrainConfig",
    "TrainEvent",
    "fit",
    "flush_denormals",
    "learning_rate",
    "recalibrate_batchnorm",
    "split_by_decay",
]
