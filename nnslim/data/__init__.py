"""Labelled images: where they come from, how they are split, cropped and fed to a network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnslim.data.augment import Augment
    from nnslim.data.dataset import Data
    from nnslim.data.loader import Loader, Sampling
    from nnslim.data.preprocess import Preprocess
    from nnslim.data.selection import stratified_indices
    from nnslim.data.sources import load_data
    from nnslim.data.split import Split

__all__ = [
    "Augment",
    "Data",
    "Loader",
    "Preprocess",
    "Sampling",
    "Split",
    "load_data",
    "stratified_indices",
]


def __getattr__(name: str) -> object:
    # Lazy, so that `import nnslim.data.preprocess` alone does not import torch.
    homes = {
        "Augment": "augment",
        "Data": "dataset",
        "Loader": "loader",
        "Preprocess": "preprocess",
        "Sampling": "loader",
        "Split": "split",
        "load_data": "sources",
        "stratified_indices": "selection",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
