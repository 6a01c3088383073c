"""Training: the loop, its configuration, checkpoints, and batch norm recalibration."""

from __future__ import annotations

from nnslim.train.batchnorm import Recalibration, recalibrate_batchnorm
from nnslim.train.config import Precision, Schedule, TrainConfig
from nnslim.train.events import EventLog, read_events
from nnslim.train.loop import fit
from nnslim.train.optimizer import split_by_decay
from nnslim.train.records import BatchLoader, EpochRecord, FitResult, GradientPenalty, TrainEvent
from nnslim.train.runtime import flush_denormals
from nnslim.train.schedule import learning_rate
from nnslim.train.telling import ShowTraining, tell_all

__all__ = [
    "BatchLoader",
    "EpochRecord",
    "EventLog",
    "FitResult",
    "GradientPenalty",
    "Precision",
    "Recalibration",
    "Schedule",
    "ShowTraining",
    "TrainConfig",
    "TrainEvent",
    "fit",
    "flush_denormals",
    "learning_rate",
    "read_events",
    "recalibrate_batchnorm",
    "split_by_decay",
    "tell_all",
]
