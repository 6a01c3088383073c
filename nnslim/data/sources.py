"""Find the data set that a specification names: a folder, a file, a known set or a factory."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nnslim.data.arrays import data_from_arrays, read_npz
from nnslim.data.dataset import Data, complete_splits
from nnslim.data.digits import load_digits
from nnslim.data.folder import read_folder
from nnslim.data.vision import VISION_SETS, load_vision_set
from nnslim.errors import ConfigError, InputError
from nnslim.factory import call_factory
from nnslim.settings.inputs import DataSettings, TrainingDataSettings
from nnslim.sink import Sink

__all__ = ["load_data", "open_data"]

_FORMS = (
    "give a folder with train/, val/ and test/ of class folders, a MedMNIST-style .npz file,"
    " a torchvision set such as cifar10 or cifar10:ROOT, digits, or package.module:factory"
)


def load_data(
    spec: str | Path, *, download: bool = False, seed: int = 0, validation: int | None = None
) -> Data:
    """Find, list and split a data set; images on disk are not decoded yet.

    Args:
        spec: A folder, an ``.npz`` file, a set's name with an optional root (``data`` in the
            working directory by default), ``digits``, or ``package.module:factory``, a callable
            without arguments that returns a ``Data`` or a dict of arrays.
        download: Let torchvision fetch what is missing.
        seed: Decides which training images validate, where the set has no validation part.
        validation: How many do; a given validation part then joins the training images first.
            None is 10 %, at most 5000, and 0 trains on all of them.

    Raises:
        InputError: There is no such data, or it is damaged; says what and where.
            So many cannot be split off to validate.

    Example:
        >>> data = load_data("digits")
        >>> data.classes[:3], len(data.train)
        (('0', '1', '2'), 1257)
    """
    return complete_splits(_read(spec, download=download), seed=seed, validation=validation)


def open_data(settings: DataSettings, seed: int, sink: Sink) -> Data | None:
    """Open the data set, if one was named, and say what was decided.

    Raises:
        ConfigError: Validation images without a data set.
        InputError: There is no such data, it is damaged, or cannot be split so.
    """
    training = settings if isinstance(settings, TrainingDataSettings) else TrainingDataSettings()
    if not settings.source:
        if training.validation is not None:
            count = training.validation
            raise ConfigError(
                f"[[data.validation={count}]]: there are no images", hint="give [[data]]"
            )
        return None
    data = load_data(
        settings.source, download=settings.download, seed=seed, validation=training.validation
    )
    for note in data.notes:
        sink.info(f"{data.name}: {note}")
    if training.subset is not None:
        data = data.with_subset(training.subset, seed=seed)
    if training.views is not None:
        data = replace(data, augment=replace(data.augment, views=training.views))
    return data


def _read(spec: str | Path, *, download: bool) -> Data:
    text = str(spec)
    if not text:
        raise InputError("no data given", hint=_FORMS)
    path = Path(text).expanduser()
    head, _, root = text.partition(":")
    name = re.sub(r"[-_]", "", head.lower())
    # A known name wins over a file or folder of that name: ./cifar10 says the folder.
    if isinstance(spec, str) and text == "digits":
        return load_digits()
    if isinstance(spec, str) and name in VISION_SETS:
        return load_vision_set(name, Path(root or "data").expanduser(), download=download)
    if path.is_dir():
        return read_folder(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return read_npz(path)
    if path.exists():
        raise InputError(f"{text}: a {path.suffix or 'nameless'} file is not data", hint=_FORMS)
    if path.suffix.lower() == ".npz" or isinstance(spec, Path):
        raise InputError(f"{text}: no such file or folder", hint="check the path")
    near = difflib.get_close_matches(name, [*VISION_SETS, "digits"], n=3)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return _from_factory(text, meant)
    raise InputError(f"{text!r} is no file, folder or known data set{meant}", hint=_FORMS)


def _from_factory(text: str, meant: str) -> Data:
    try:
        made = call_factory(text)
    except ConfigError as error:
        message, hint = error.raw
        raise InputError(f"{message}{meant}", hint) from error
    if isinstance(made, Data):
        return made
    if isinstance(made, Mapping):
        return data_from_arrays(text, made)
    message = f"{text} returned a {type(made).__name__}"
    raise InputError(message, hint="return nnslim.data.Data, or a dict of arrays as in an .npz")
