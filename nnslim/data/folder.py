"""A folder of class folders, in torchvision's layout or in that of TinyImageNet-200."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnslim.data.augment import Augment
from nnslim.data.dataset import Data
from nnslim.data.images import open_image
from nnslim.data.preprocess import Preprocess
from nnslim.data.split import Split
from nnslim.data.statistics import IMAGENET_MEAN, IMAGENET_STD
from nnslim.errors import InputError

__all__ = ["IMAGENET", "default_preprocess", "file_augment", "read_folder"]

IMAGENET = Preprocess(size=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=256)

_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
)


def read_folder(folder: Path) -> Data:
    """List the images of ``train/``, ``val/`` (or ``valid/``) and ``test/``; decode none yet.

    Classes are the folders of ``train/`` in alphabetical order, as in torchvision's ImageFolder.

    Raises:
        InputError: No such folders, an empty class folder, a class that train does not have, or
            annotations that name an unknown class or a missing file.
    """
    roots = _split_roots(folder)
    classes = _class_names(next(iter(roots.values())))
    listing = _Listing(classes)
    splits: dict[str, Split] = {}
    for key, root in roots.items():
        if key == "test" and _is_unlabelled(root, classes):
            listing.notes.append(f"test: {root} has no class folders, so it is not used")
            continue
        files, labels = listing.read_split(root)
        splits[key] = Split(np.asarray(labels), files=tuple(files), name=f"{folder.name} {key}")
    if not splits:
        raise InputError(f"{folder}: no labelled images", hint="add train/ or val/")
    preprocess, how = default_preprocess([s for split in splits.values() for s in split.files])
    augment = file_augment(preprocess)
    notes = (*listing.all_notes(), how, augment.describe())
    return Data(folder.name, classes, preprocess, splits, augment, notes)


def default_preprocess(files: Sequence[str]) -> tuple[Preprocess, str]:
    """Choose the input size by up to 64 evenly spread files; say what was chosen.

    Raises:
        InputError: One of them is not an image.
    """
    sizes = {_image_size(path) for path in files[:: 1 + len(files) // 64]}
    width, height = max(sizes)
    if len(sizes) == 1 and max(width, height) <= 64:
        small = Preprocess(size=(height, width), mean=IMAGENET_MEAN, std=IMAGENET_STD)
        return small, f"preprocessing: {width}x{height} px, the images' own; ImageNet mean and std"
    return IMAGENET, "preprocessing: ImageNet's (resize 256, centre crop 224, mean and std)"


def file_augment(preprocess: Preprocess, *, flip: bool = True) -> Augment:
    """Shift small images; crop large ones at random, as in ImageNet training."""
    if max(preprocess.size) <= 64:
        return Augment(pad=min(preprocess.size) // 8, flip=flip)
    return Augment(pad=0, flip=flip, min_area=0.08)


@dataclass
class _Listing:
    """Collects the files of the splits, and what there is to say about them."""

    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def read_split(self, root: Path) -> tuple[list[str], list[int]]:
        if _is_annotated(root):
            return self._read_annotations(root)
        folders = _subfolders(root)
        if unknown := sorted(set(folders) - set(self.classes)):
            message = f"{root / unknown[0]}: train has no class of this name"
            raise InputError(message, hint="use the same class folders in every split")
        if absent := len(self.classes) - len(folders):
            self.notes.append(
                f"{root.name}: {absent} of {len(self.classes)} classes have no folder"
            )
        files: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            if name in folders:
                of_class = self._image_files(root / name)
                files += of_class
                labels += [label] * len(of_class)
        return files, labels

    def all_notes(self) -> list[str]:
        if not self.ignored:
            return self.notes
        suffixes = ", ".join(sorted(self.ignored))
        return [*self.notes, f"{self.ignored.total()} files are not images, not used: {suffixes}"]

    def _image_files(self, folder: Path) -> list[str]:
        files: list[str] = []
        # os.walk: ten times faster than Path.rglob on the million files of ImageNet.
        for parent, folders, names in os.walk(folder, followlinks=True):
            folders.sort()
            for name in sorted(names):
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - the same
                if name.startswith("."):
                    continue
                if suffix in _SUFFIXES:
                    files.append(f"{parent}{os.sep}{name}")
                else:
                    self.ignored[suffix or name] += 1
        if not files:
            message = f"{folder}: this class folder holds no images"
            raise InputError(
                message, hint=f"remove it, or add {', '.join(sorted(_SUFFIXES))} files"
            )
        return files

    def _read_annotations(self, root: Path) -> tuple[list[str], list[int]]:
        files: list[str] = []
        labels: list[int] = []
        number_of = {name: number for number, name in enumerate(self.classes)}
        for number, (file, name) in enumerate(_annotations(root), start=1):
            where = f"{root / 'val_annotations.txt'}, entry {number}"
            if name not in number_of:
                raise InputError(f"{where}: train has no class {name!r}")
            if not file.is_file():
                raise InputError(f"{where}: {file} is missing", hint="unpack the set again")
            files.append(str(file))
            labels.append(number_of[name])
        return files, labels


def _split_roots(folder: Path) -> dict[str, Path]:
    roots: dict[str, Path] = {}
    for key, names in _NAMES.items():
        present = [folder / name for name in names if (folder / name).is_dir()]
        if len(present) > 1:
            message = f"{folder}: has both {present[0].name}/ and {present[1].name}/"
            raise InputError(message, hint="keep one of them")
        if present:
            roots[key] = present[0]
    if not roots:
        inside = ", ".join(_subfolders(folder)[:5]) or "no folders"
        message = f"{folder}: has no train/, val/ or test/, only {inside}"
        raise InputError(message, hint="put class folders into train/, val/ and test/")
    return roots


def _class_names(root: Path) -> tuple[str, ...]:
    if _is_annotated(root):
        names = sorted({name for _, name in _annotations(root)})
    else:
        names = _subfolders(root)
    if not names:
        raise InputError(f"{root}: holds no class folders", hint="make one folder per class")
    return tuple(names)


def _subfolders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _is_annotated(root: Path) -> bool:
    return (root / "val_annotations.txt").is_file() and (root / "images").is_dir()


def _annotations(root: Path) -> list[tuple[Path, str]]:
    """Return (file, class) of each line ``name<TAB>class<TAB>box``."""
    path = root / "val_annotations.txt"
    entries: list[tuple[Path, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) == 1:
            raise InputError(f"{path}, line {number}: no class after {fields[0]!r}")
        if fields:
            entries.append((root / "images" / fields[0], fields[1]))
    return entries


def _is_unlabelled(root: Path, classes: tuple[str, ...]) -> bool:
    folders = _subfolders(root)
    return not folders or (folders == ["images"] and "images" not in classes)


def _image_size(path: str) -> tuple[int, int]:
    with open_image(path) as image:
        return image.size
