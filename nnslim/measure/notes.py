"""What an evaluation decided for its user, one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nnslim.measure.results import FileResult

__all__ = ["evaluation_notes"]

_ORIGINS: Mapping[str, str] = {
    "file": "the file's own",
    "caller": "as asked for",
    "data": "no preprocessing of its own, the data's default was used",
}
# Notes on data that only training uses; the preprocessing is noted for each file.
_FOR_TRAINING = ("preprocessing:", "augmentation:", "train:", "val:")


def evaluation_notes(data_notes: Sequence[str], results: Sequence[FileResult]) -> tuple[str, ...]:
    """Return what concerns the test images, the preprocessing of each file, and how to compare."""
    given: dict[str, list[str]] = {}
    for result in results:
        if result.preprocess is not None and result.preprocess_from is not None:
            note = f"{result.preprocess.describe()}; {_ORIGINS[result.preprocess_from]}"
            given.setdefault(note, []).append(str(result.path))
    notes = [note for note in data_notes if not note.startswith(_FOR_TRAINING)]
    notes += [f"{', '.join(paths)}: {note}" for note, paths in given.items()]
    if any(result.parameters_counted == "onnx initializers" for result in results):
        notes.append(
            "parameters of .onnx files are the values they store; BatchNorm is folded into the "
            "convolutions there, so they are fewer than the network's"
        )
    if len({result.provider_used for result in results}) > 1:
        notes.append("the files ran on different providers: their latencies do not compare")
    return tuple(notes)
