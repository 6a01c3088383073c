"""Accuracy of one ONNX file on a data set, with the preprocessing that belongs to the file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from nnslim.data import Data
from nnslim.data.preprocess import Preprocess
from nnslim.errors import InputError
from nnslim.measure.accuracy import Accuracy, onnx_accuracy
from nnslim.measure.overlap import Stopwatch, ahead
from nnslim.settings.eval import EvalSettings
from nnslim.settings.option import AUTO
from nnslim.settings.session import SessionSettings

if TYPE_CHECKING:
    from nnslim.onnx import Session

__all__ = ["Score", "as_pixels", "decoding_workers", "images_per_run", "score"]

_MOST_WORKERS = 8
_MOST_IMAGES = 100
# 20 images of 224 px: a first batch that is soon decoded, and activations of hundreds of MB.
_MOST_PIXELS = 2**20


@dataclass(frozen=True)
class Score:
    """Accuracy, and what the images went through.

    Attributes:
        accuracy: On the test split.
        preprocess: How images became inputs.
        origin: Whose preprocessing that is.
        warnings: What the user should know, one sentence each.
        images_per_s: Images decoded, normalised, run and scored per second of wall time; those
            that another file has left in memory are not decoded again.
        busy: Part of that time in which onnxruntime was running, 0 to 1.
    """

    accuracy: Accuracy
    preprocess: Preprocess
    origin: Literal["file", "caller", "data"]
    warnings: tuple[str, ...]
    images_per_s: float
    busy: float


def score(
    session: Session,
    data: Data,
    settings: EvalSettings,
    preprocess: Preprocess | None,
    *,
    keep: bool = False,
) -> Score:
    """Run the test split; preprocessing stored in the file wins over the caller's and the data's.

    ``keep`` leaves the decoded images in memory for the next file, where they fit.

    Raises:
        InputError: Size, channels or number of classes of file and data disagree.
    """
    # Lazy: the loader brings PIL and torch's DataLoader, which other measurements do not need.
    from nnslim.data import Loader  # noqa: PLC0415

    chosen, origin = _choose(session, data, preprocess)
    _check_size(session, chosen)
    fed = as_pixels(chosen) if session.input.takes_pixels else chosen
    watch = Stopwatch()
    batch = images_per_run(settings, chosen)
    workers = decoding_workers() if settings.workers is AUTO else settings.workers
    loader = Loader(data.test, fed, batch, workers=workers, keep=keep)
    accuracy = onnx_accuracy(session, ahead(loader), len(data.classes), watch)
    seconds = max(watch.total_s, 1e-9)
    session.check_still_on_device()
    warnings = (*accuracy.warnings, *_class_warnings(session, data.classes))
    rate, busy = accuracy.n / seconds, watch.busy_s / seconds
    return Score(accuracy, chosen, origin, warnings, rate, busy)


def images_per_run(settings: EvalSettings, preprocess: Preprocess) -> int:
    """What the settings say, else what fits in memory at this size of an image.

    Example:
        >>> from nnslim.settings.eval import EvalSettings
        >>> large = Preprocess(size=(224, 224), mean=(0.5,), std=(0.25,))
        >>> images_per_run(EvalSettings(), large)
        20
    """
    if settings.accuracy_batch is not None:
        return settings.accuracy_batch
    height, width = preprocess.size
    return max(1, min(_MOST_IMAGES, _MOST_PIXELS // (height * width)))


def decoding_workers() -> int:
    """Processes that decode image files: all cores but one; on two cores a thread is enough."""
    cores = SessionSettings().n_threads
    return min(cores - 1, _MOST_WORKERS) if cores > 2 else 0


def as_pixels(preprocess: Preprocess) -> Preprocess:
    """The same size and crop, for a file that takes values from 0 to 255."""
    n = preprocess.channels
    return replace(preprocess, mean=(0.0,) * n, std=(1 / 255,) * n)


def _choose(
    session: Session, data: Data, preprocess: Preprocess | None
) -> tuple[Preprocess, Literal["file", "caller", "data"]]:
    stored = session.metadata.get("nnslim.preprocess")
    if stored is not None:
        value = _json(stored)
        if not isinstance(value, dict):
            raise InputError("metadata nnslim.preprocess is not a JSON object")
        return Preprocess.from_json(value), "file"
    if preprocess is not None:
        return preprocess, "caller"
    return data.preprocess, "data"


def _check_size(session: Session, preprocess: Preprocess) -> None:
    given = (preprocess.channels, *preprocess.size)
    pairs = zip(session.input_shape, given, strict=True)
    if any(want not in (None, got) for want, got in pairs):
        wanted = "x".join(str(d or "any") for d in session.input_shape)
        made = "x".join(str(d) for d in given)
        hint = "give the preprocessing that the network was trained with"
        raise InputError(f"input is {wanted} (CxHxW), the preprocessing makes {made}", hint=hint)


def _class_warnings(session: Session, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Same number, other names: perhaps only spelt otherwise, perhaps in another order."""
    stored = _json(session.metadata.get("nnslim.classes", "null"))
    if not isinstance(stored, list):
        return ()
    for index, (ours, theirs) in enumerate(zip(stored, classes, strict=False)):
        if ours != theirs:
            return (f"class {index} is {ours!r} in the file and {theirs!r} in the data",)
    return ()


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"metadata of the file is not JSON: {text[:40]!r}") from error
