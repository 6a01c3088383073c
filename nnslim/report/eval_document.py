"""The parts of an evaluation's JSON document; ``eval.schema.json`` is the same for machines."""

from __future__ import annotations

from collections.abc import Sequence

from nnslim.report.table import Json

__all__ = ["file_name", "files_of", "gates_of"]


def files_of(document: Json) -> Sequence[Json]:
    """Return the measured files."""
    return document.get("files") or ()


def gates_of(document: Json) -> Sequence[Json]:
    """Return the verdicts on the limits."""
    return document.get("gates") or ()


def file_name(path: object, document: Json) -> str:
    """Return the file's name, or its path where two files have one name; a baseline is marked."""
    files = files_of(document)
    names = [str(file["path"]).rpartition("/")[2] for file in files]
    short = str(path).rpartition("/")[2]
    shown = short if names.count(short) <= 1 else str(path)
    marked = any(file["baseline"] and file["path"] == path for file in files)
    return f"{shown} (baseline)" if marked else shown
