"""Tables of what changed between a file and its baseline: by class, and from which to which."""

from __future__ import annotations

from collections.abc import Sequence

from nnslim.report.eval_document import file_name, files_of
from nnslim.report.table import Json, Table
from nnslim.report.units import count, percent

__all__ = ["change_tables"]

_MOST_CHANGES = 10


def change_tables(document: Json) -> list[Table]:
    """For every compared file: the classes that change most, and what images are called instead."""
    tables: list[Table] = []
    for file in files_of(document):
        drop = (file["against_baseline"] or {}).get("accuracy")
        if drop is not None and drop["moves"]:
            name = file_name(file["path"], document)
            tables += [_class_table(name, drop["per_class"]), _move_table(name, drop["moves"])]
    return [table for table in tables if table.rows]


def _class_table(name: str, classes: Sequence[Json]) -> Table:
    def change(row: Json) -> float:
        return row["own_pct"] - row["baseline_pct"]

    changed = [row for row in classes if change(row) != 0]
    ordered = sorted(changed, key=lambda row: -abs(change(row)))
    rows = [
        [
            str(row["name"]),
            count(row["n"]),
            percent(row["baseline_pct"]),
            percent(row["own_pct"]),
            f"{change(row):+.2f}",
        ]
        for row in ordered[:_MOST_CHANGES]
    ]
    heads = ["class", ">images", ">baseline, %", ">file, %", ">change, points"]
    title = f"{name}: top-1 by class, {_first(len(rows), len(changed))} that changed"
    return Table.of(title, heads, rows)


def _move_table(name: str, moves: Sequence[Json]) -> Table:
    rows = [
        [str(row["label"]), str(row["baseline"]), str(row["own"]), count(row["n"]), _effect(row)]
        for row in moves[:_MOST_CHANGES]
    ]
    heads = ["images of", "baseline says", "file says", ">images", "which is"]
    title = f"{name}: other answers, {_first(len(rows), len(moves))} kinds"
    return Table.of(title, heads, rows)


def _effect(move: Json) -> str:
    if move["label"] == move["baseline"]:
        return "lost"
    return "won" if move["label"] == move["own"] else "wrong as before"


def _first(shown: int, total: int) -> str:
    return f"all {total}" if shown == total else f"the largest {shown} of {count(total)}"
