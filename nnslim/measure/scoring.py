"""Accuracy of one ONNX file on a data set, with the preprocessing that belongs to the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nnslim.data.preprocess import Preprocess
from nnslim.errors import InputError
from nnslim.measure.accuracy import Accuracy, onnx_accuracy

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.measure.results import EvalSettings
    from nnslim.onnx import Session

__all__ = ["Score", "score"]


@dataclass(frozen=True)
class Score:
    """Accuracy, and what the images went through.

    Attributes:
        accuracy: On the test split.
        preprocess: How images became inputs.
        origin: Whose preprocessing that is.
        warnings: What the user should know, one sentence each.
    """

    accuracy: Accuracy
    preprocess: Preprocess
    origin: Literal["file", "caller", "data"]
    warnings: tuple[str, ...]


def score(
    session: Session, data: Data, settings: EvalSettings, preprocess: Preprocess | None
) -> Score:
    """Run the test split; the file's own preprocessing wins over the caller's and the data's.

    Raises:
        InputError: Size, channels or number of classes of file and data disagree.
    """
    # Lazy: the loader brings PIL and torch's DataLoader, which other measurements do not need.
    from nnslim.data import Loader  # noqa: PLC0415

    chosen, origin = _choose(session, data, preprocess)
    _check_size(session, chosen)
    loader = Loader(data.test, chosen, settings.accuracy_batch, workers=settings.workers)
    accuracy = onnx_accuracy(session, loader, len(data.classes))
    session.check_still_on_device()
    warnings = (*accuracy.warnings, *_class_warnings(session, data.classes))
    return Score(accuracy, chosen, origin, warnings)


def _choose(
    session: Session, data: Data, preprocess: Preprocess | None
) -> tuple[Preprocess, Literal["file", "caller", "data"]]:
    own = session.metadata.get("nnslim.preprocess")
    if own is not None:
        value = _json(own)
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
    own = _json(session.metadata.get("nnslim.classes", "null"))
    if not isinstance(own, list):
        return ()
    for index, (ours, theirs) in enumerate(zip(own, classes, strict=False)):
        if ours != theirs:
            return (f"class {index} is {ours!r} in the file and {theirs!r} in the data",)
    return ()


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"metadata of the file is not JSON: {text[:40]!r}") from error
