"""A data set: its splits, classes and defaults, and what was decided for the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nnslim.data.augment import Augment
from nnslim.data.preprocess import Preprocess
from nnslim.data.selection import stratified_indices
from nnslim.data.split import Split
from nnslim.errors import InputError

__all__ = ["Data", "complete_splits", "split_off"]


@dataclass(frozen=True)
class Data:
    """A classification data set.

    Attributes:
        name: As the user gave it.
        classes: Class names; a label is an index into them.
        preprocess: The source's default; the preprocessing of a model's file wins.
        splits: Those of ``"train"``, ``"val"`` and ``"test"`` that exist.
        augment: The source's default for training.
        notes: Everything that was decided for the user, a sentence each.

    Raises:
        InputError: No split at all, an unknown split name, or a label without a class.

    Example:
        >>> import numpy as np
        >>> from nnslim.data import Augment, Preprocess, Split
        >>> test = Split(np.array([0, 1]), np.zeros((2, 8, 8), np.uint8))
        >>> gray = Preprocess(size=(8, 8), mean=(0.5,), std=(0.5,))
        >>> data = Data("mine", ("cat", "dog"), gray, {"test": test}, Augment(pad=1, flip=True))
        >>> len(data.test), data.has("train")
        (2, False)
    """

    name: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    splits: Mapping[str, Split]
    augment: Augment
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.splits or not set(self.splits) <= {"train", "val", "test"}:
            message = f"{self.name}: the splits are {sorted(self.splits) or 'missing'}"
            raise InputError(message, hint="give at least one of train, val and test")
        for key, split in self.splits.items():
            if len(split) == 0:
                raise InputError(f"{self.name}: {key} holds no images")
            if split.labels.max() >= len(self.classes):
                message = (
                    f"{self.name}: {key} has the label {split.labels.max()}"
                    f" but there are only {len(self.classes)} classes, numbered from 0"
                )
                raise InputError(message, hint="give a name for every class, or mend the labels")

    def has(self, split: str) -> bool:
        """Whether this split exists."""
        return split in self.splits

    @property
    def train(self) -> Split:
        """The training images; an ``InputError`` when there are none."""
        return self._split("train")

    @property
    def val(self) -> Split:
        """The validation images; an ``InputError`` when there are none."""
        return self._split("val")

    @property
    def test(self) -> Split:
        """The test images; an ``InputError`` when there are none."""
        return self._split("test")

    @property
    def measured(self) -> str:
        """The split that accuracy is reported on: ``test``, or ``val`` in its place.

        Raises:
            InputError: There is neither.
        """
        if self.has("test") or self.has("val"):
            return "test" if self.has("test") else "val"
        message = f"{self.name} leaves no images to measure accuracy on"
        raise InputError(message, hint="add test images, or let some of train validate")

    def require_classes(self, n_outputs: int) -> None:
        """Raise an ``InputError`` unless a network with this many outputs fits the classes."""
        if n_outputs != len(self.classes):
            message = (
                f"{self.name} has {len(self.classes)} classes"
                f" but the network has {n_outputs} outputs"
            )
            raise InputError(message, hint="give the data that the network was trained for")

    def with_subset(self, count: int, *, seed: int) -> Data:
        """Keep ``count`` training images, each class with its share, and say so in the notes.

        Raises:
            InputError: ``count`` is below 1 or above the number of training images.
        """
        labels = self.train.labels
        if not 1 <= count <= len(labels):
            message = f"{self.name}: a subset of {count} of {len(labels)} training images"
            raise InputError(message, hint=f"ask for 1 to {len(labels)}")
        train = self.train.subset(stratified_indices(labels, count, seed=seed))
        note = f"train: {count} of {len(labels)} images, each class with its share, seed {seed}"
        return replace(self, splits={**self.splits, "train": train}, notes=(*self.notes, note))

    def _split(self, key: str) -> Split:
        if key not in self.splits:
            message = f"{self.name} has no {key} images, only {', '.join(self.splits)}"
            raise InputError(message, hint=f"add a {key} split")
        return self.splits[key]


def complete_splits(data: Data, *, seed: int, validation: int | None = None) -> Data:
    """Fill in what is missing: val serves as a missing test, and val is split off train.

    The validation part is 10 % of the training images, at most 5000, every class with its share and
    at least one image left to train on. Where ``validation`` says how many validate, they are
    chosen so among the images of train and of a given val, and all others are trained on.

    Raises:
        InputError: So many images cannot be split off.
    """
    splits, notes = dict(data.splits), list(data.notes)
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
        notes.append("test: there is none, so val serves as test")
    elif "test" not in splits:
        notes.append("test: there is none, so no test accuracy can be measured")
    if validation is not None:
        if "train" not in splits:
            message = f"{data.name} has no training images, so {validation} cannot be split off"
            raise InputError(message, hint="leave out [[data.validation]]")
        if "val" in splits:
            notes.append(f"train: the {len(splits['val'])} validation images join it")
            splits["train"] = splits["train"].joined(splits.pop("val"))
    if validation == 0:
        notes.append("val: no image validates, all are trained on")
    elif "val" not in splits and "train" in splits:
        chosen = _validation_part(data.name, splits["train"].labels, validation, seed)
        if chosen is None:
            notes.append("val: there is none, and train is too small to split one off")
        else:
            splits["val"], splits["train"] = split_off(splits["train"], chosen)
            notes.append(f"val: {len(chosen)} images split off train (stratified, seed {seed})")
    return replace(data, splits=splits, notes=tuple(notes))


def split_off(split: Split, chosen: NDArray[np.int64]) -> tuple[Split, Split]:
    """Return the samples at ``chosen`` and all the others, each in its old order."""
    others = np.setdiff1d(np.arange(len(split)), chosen)
    return split.subset(chosen), split.subset(others)


def _validation_part(
    name: str, labels: NDArray[np.int64], count: int | None, seed: int
) -> NDArray[np.int64] | None:
    asked = min(5000, max(1, round(len(labels) / 10))) if count is None else count
    if not 1 <= asked <= len(labels):
        message = f"{name}: {asked} of {len(labels)} training images to validate"
        raise InputError(message, hint=f"ask for 0 to {len(labels) - 1}")
    chosen = stratified_indices(labels, asked, seed=seed, leave=1)
    if count is not None and len(chosen) < count:
        message = f"{name}: {count} images to validate leave none of some class to train on"
        raise InputError(message, hint=f"ask for at most {len(chosen)}")
    return chosen if len(chosen) else None
