"""The image classification sets that torchvision can read and download."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnslim.data.arrays import Defaults, data_from_splits
from nnslim.data.dataset import Data, split_off
from nnslim.data.folder import default_preprocess, file_augment
from nnslim.data.preprocess import Preprocess
from nnslim.data.selection import stratified_indices
from nnslim.data.split import Split
from nnslim.errors import InputError

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset

__all__ = ["VISION_SETS", "VisionSet", "load_vision_set"]


@dataclass(frozen=True)
class VisionSet:
    """What torchvision does not say about one of its sets.

    Attributes:
        cls: The class in ``torchvision.datasets``.
        splits: Our split names, with the arguments that select each.
        defaults: Known pixel statistics, and whether mirroring keeps the class.
        in_memory: Whether the class holds its images as arrays rather than files.
        size: Input size for files, where the usual one is not 224.
    """

    cls: str
    splits: Mapping[str, Mapping[str, object]]
    defaults: Defaults
    in_memory: bool = False
    size: tuple[int, int] | None = None


_BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
_BY_NAME = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE = {**_BY_NAME, "val": {"split": "val"}}
_MIRRORED = Defaults(flip=True)
_UPRIGHT = Defaults(flip=False)


def _small(cls: str, splits: Mapping[str, Mapping[str, object]], defaults: Defaults) -> VisionSet:
    return VisionSet(cls, splits, defaults, in_memory=True)


def _large(cls: str, **names: str) -> VisionSet:
    return VisionSet(cls, {key: {"split": name} for key, name in names.items()}, _MIRRORED)


# Means and deviations of the training images; where they are not given they are computed.
VISION_SETS: Mapping[str, VisionSet] = {
    "cifar10": _small(
        "CIFAR10", _BY_FLAG, Defaults((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), flip=True)
    ),
    "cifar100": _small(
        "CIFAR100",
        _BY_FLAG,
        Defaults((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), flip=True),
    ),
    "mnist": _small("MNIST", _BY_FLAG, Defaults((0.1307,), (0.3081,), flip=False)),
    "fashionmnist": _small("FashionMNIST", _BY_FLAG, Defaults((0.2860,), (0.3530,), flip=True)),
    "kmnist": _small("KMNIST", _BY_FLAG, Defaults((0.1918,), (0.3483,), flip=False)),
    "emnist": _small(
        "EMNIST", {k: {**v, "split": "balanced"} for k, v in _BY_FLAG.items()}, _UPRIGHT
    ),
    "usps": _small("USPS", _BY_FLAG, _UPRIGHT),
    "svhn": _small(
        "SVHN", _BY_NAME, Defaults((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), flip=False)
    ),
    "stl10": _small(
        "STL10", _BY_NAME, Defaults((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713), flip=True)
    ),
    "gtsrb": VisionSet(
        "GTSRB",
        _BY_NAME,
        Defaults((0.3403, 0.3121, 0.3214), (0.2724, 0.2608, 0.2669), flip=False),
        size=(32, 32),
    ),
    "flowers102": VisionSet("Flowers102", _THREE, _MIRRORED),
    "food101": VisionSet("Food101", _BY_NAME, _MIRRORED),
    "oxfordiiitpet": _large("OxfordIIITPet", train="trainval", test="test"),
    "dtd": VisionSet("DTD", _THREE, _MIRRORED),
    "fgvcaircraft": VisionSet("FGVCAircraft", _THREE, _MIRRORED),
    "stanfordcars": VisionSet("StanfordCars", _BY_NAME, _MIRRORED),
    "country211": _large("Country211", train="train", val="valid", test="test"),
    "renderedsst2": VisionSet("RenderedSST2", _THREE, _UPRIGHT),
    "imagenette": _large("Imagenette", train="train", val="val"),
    "eurosat": VisionSet("EuroSAT", {"train": {}}, _MIRRORED),
    "sun397": VisionSet("SUN397", {"train": {}}, _MIRRORED),
}


def load_vision_set(name: str, root: Path, *, download: bool = False) -> Data:
    """Read a set from the folder that torchvision keeps it in.

    Args:
        name: A key of ``VISION_SETS``.
        root: The ``root`` that torchvision's class is given.
        download: Fetch what is missing; nothing is downloaded otherwise.

    Raises:
        InputError: The set is not there, is damaged, or could not be downloaded.
    """
    known = VISION_SETS[name]
    sets = {key: _open(name, key, root, download=download) for key in known.splits}
    read = _array_split if known.in_memory else _file_split
    splits = {key: read(dataset, f"{name} {key}") for key, dataset in sets.items()}
    classes = _class_names(sets["train"], splits)
    notes = [f"read from {root}"]
    if known.in_memory:
        return data_from_splits(
            name, splits, classes=classes, defaults=known.defaults, notes=tuple(notes)
        )
    if set(splits) == {"train"}:
        count = len(splits["train"]) // 5
        chosen = stratified_indices(splits["train"].labels, count, seed=0)
        splits["test"], splits["train"] = split_off(splits["train"], chosen)
        notes.append(f"test: no official split, {count} images (20 %) set aside, always the same")
    preprocess, how = _file_preprocess(known, splits["train"])
    augment = file_augment(preprocess, flip=bool(known.defaults.flip))
    notes += [how, augment.describe()]
    return Data(name, classes, preprocess, splits, augment, tuple(notes))


def _open(name: str, key: str, root: Path, *, download: bool) -> VisionDataset:
    # Lazy: torchvision takes seconds to import, and folders and arrays do without it.
    from torchvision import datasets  # noqa: PLC0415

    known = VISION_SETS[name]
    make = getattr(datasets, known.cls)
    options = dict(known.splits[key])
    if "loader" in inspect.signature(make).parameters:
        options["loader"] = str  # the set then yields paths instead of decoded images
    try:
        return make(root, download=download, **options)
    except (RuntimeError, OSError, ValueError) as error:
        if download:
            message = f"{name} could not be downloaded to {root}: {error}"
            raise InputError(
                message, hint=f"fetch it by other means and give {name}:ROOT"
            ) from error
        message = f"{name}: its {key} images are missing or damaged in {root.absolute()}"
        hint = f"run again with [[download]], or say where it is: {name}:ROOT"
        raise InputError(message, hint=hint) from error


def _array_split(dataset: VisionDataset, name: str) -> Split:
    held = vars(dataset)
    images = np.asarray(held["data"])
    labels = held["targets"] if "targets" in held else held["labels"]
    if images.ndim == 4 and images.shape[3] != 3:
        images = images.transpose(0, 2, 3, 1)  # SVHN and STL10 keep (N, C, H, W)
    return Split(np.asarray(labels), images, name=name)


def _file_split(dataset: VisionDataset, name: str) -> Split:
    """List (file, label); two sets take no ``loader`` and have lists of them."""
    held = vars(dataset)
    if "loader" in held:
        pairs = [dataset[i] for i in range(len(dataset))]
    elif "_samples" in held:  # GTSRB
        pairs = held["_samples"]
    else:  # OxfordIIITPet
        pairs = list(zip(held["_images"], held["_labels"], strict=True))
    files = tuple(str(file) for file, _ in pairs)
    return Split(np.asarray([label for _, label in pairs]), files=files, name=name)


def _file_preprocess(known: VisionSet, train: Split) -> tuple[Preprocess, str]:
    mean, std = known.defaults.mean, known.defaults.std
    if known.size is None or mean is None or std is None:
        return default_preprocess(train.files)
    how = f"preprocessing: scaled to {known.size[0]}x{known.size[1]} px, the set's mean and std"
    return Preprocess(size=known.size, mean=mean, std=std), how


def _class_names(dataset: VisionDataset, splits: Mapping[str, Split]) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if names is None:
        count = 1 + max(int(split.labels.max()) for split in splits.values())
        return tuple(str(label) for label in range(count))
    return tuple(n[0] if isinstance(n, tuple) else str(n) for n in names)
