"""Planting channels into a small network, taught by a large one."""

from __future__ import annotations

from nnslim.grow.config import GrowConfig, SeedConfig
from nnslim.grow.judging import Judged
from nnslim.grow.pipeline import grow_network
from nnslim.grow.planting import growable, plant
from nnslim.grow.result import GrowResult, Round
from nnslim.grow.training import PlantedEntries

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
