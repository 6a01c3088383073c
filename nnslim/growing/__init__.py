"""Planting channels into a small network, taught by a large one."""

from __future__ import annotations

from nnslim.growing.judging import Judged
from nnslim.growing.pipeline import grow_network
from nnslim.growing.planting import growable, plant
from nnslim.growing.result import GrowResult, Round
from nnslim.growing.training import PlantedEntries
from nnslim.settings.grow import GrowConfig, SeedConfig

__all__ = [
    "GrowConfig",
    "GrowResult",
    "Judged",
    "PlantedEntries",
    "Round",
    "SeedConfig",
    "grow_network",
    "growable",
    "plant",
]
