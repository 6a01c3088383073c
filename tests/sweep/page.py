"""docs/reference/coverage.md from the rows of a sweep, and the rows from the page where it can.

The page is the record: a sweep of a few models on another machine leaves the other rows alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["coverage_page", "rows_of_page"]

Row = Mapping[str, Any]

_HEAD = """# Which models nnslim can cut

Written by `make sweep`; do not edit. Every classifier of torchvision and one model (the smallest)
of every timm module family goes, in a process of its own, through: trace, channel groups, a plan
for half the parameters by weight magnitude (groups over which a norm runs only where others are not
enough: *with norms*), the cut, law 1 node by node in float64 for that cut and for a random half of
every prunable group, one training step, a file reloaded in a fresh process (bit-equal), and an ONNX
file in onnxruntime. Weights are random, norm statistics and scales moved; torchvision models see
small images. A row without a reason passed every stage.

*Prunable*: share of the parameters that some prunable channel contains. *Kept*: what the plan left.
*Error*: largest relative difference of any value of any node from the masked network. *Peak*:
memory beyond the loaded model. Seconds are those of one or two cores, of all stages together.
"""


def coverage_page(rows: Sequence[Row]) -> str:
    """Return the page: totals, then a table per library."""
    text = [_HEAD, "| | torchvision | timm families |", "|---|---|---|"]
    by_source = [[r for r in rows if r["source"] == s] for s in ("torchvision", "timm")]
    for label, holds in _TOTALS.items():
        counts = [f"{sum(holds(r) for r in own)} of {len(own)}" for own in by_source]
        text.append(f"| {label} | {counts[0]} | {counts[1]} |")
    peaks = [max((r["peak_mb"] for r in own), default=0) for own in by_source]
    text.append(f"| largest memory beyond the model | {peaks[0]:,} MB | {peaks[1]:,} MB |")
    errors = [max((r.get("error", 0.0) for r in own), default=0.0) for own in by_source]
    text.append(f"| largest error | {errors[0]:.0e} | {errors[1]:.0e} |")
    for title, own in zip(("torchvision", "timm"), by_source, strict=True):
        text += ["", f"## {title}", "", _COLUMNS, _RULE]
        text += [_line(row) for row in own]
    reasons = [row for row in rows if row.get("share", 1.0) < 0.9 or "reason" in row]
    if reasons:
        text += ["", "## What stays, and why", ""]
        text += [f"- `{row['model']}`: {row.get('reason') or row['frozen']}" for row in reasons]
    return "\n".join(text) + "\n"


def _cut(row: Row) -> bool:
    return "error" in row and row["stage"] not in ("cut", "cut everything")


_TOTALS = {
    "traced": lambda r: "groups" in r,
    "cut, law 1 holds": _cut,
    "prunable share at least 0.9": lambda r: r.get("share", 0.0) >= 0.9,
    "to 55 % of the parameters or fewer": lambda r: _cut(r) and r.get("kept", 1.0) <= 0.55,
    "of these without norms over cut channels": lambda r: (
        _cut(r) and r.get("kept", 1.0) <= 0.55 and not r["with_approximate"]
    ),
    "every stage, with training step, reload and ONNX": lambda r: r["stage"] == "done",
}
_COLUMNS = "| model | groups | prunable | kept | how | error | s | peak MB | |"
_RULE = "|---|--:|--:|--:|---|--:|--:|--:|---|"


def _line(row: Row) -> str:
    name = f"`{row['model']}`"
    if row.get("family", row["model"]) != row["model"]:
        name += f" ({row['family']})"
    if "groups" not in row:
        cells = ["", "", "", "", ""]
    else:
        kept = f"{100 * row['kept']:.0f} %" if "kept" in row else ""
        how = _HOW[row.get("with_approximate")]
        error = f"{row['error']:.0e}" if "error" in row else ""
        share = f"{row['share']:.3f}"
        cells = [f"{row['prunable']} of {row['groups']}", share, kept, how, error]
    reason = f"{row['stage']}: {row['reason']}" if "reason" in row else row.get("note", "")
    cells += [f"{row['seconds']:.0f}", f"{row['peak_mb']:,}", reason.replace("|", "/")]
    return f"| {name} | " + " | ".join(cells) + " |"


_HOW = {True: "with norms", False: "exact", None: ""}
_ROW = re.compile(r"\| `(.*?)`(?: \((.*?)\))? \| (.*) \|$")
_STAGE = re.compile(r"([a-z ]+): (.*)")


def rows_of_page(text: str) -> list[dict[str, Any]]:
    """Return the rows that a page shows; from them it can be written again, byte for byte."""
    table, _, rest = text.partition("\n## What stays")
    why = dict(re.findall(r"- `(.*?)`: (.*)", rest))
    rows: list[dict[str, Any]] = []
    for title, part in re.findall(r"\n## (\w+)\n\n((?:\|.*\n?)*)", table):
        for found in filter(None, map(_ROW.match, part.splitlines())):
            name, family, cells = found.groups()
            row = {"source": title, "model": name, "family": family or name}
            rows.append({**row, **_row(cells, why.get(name, ""))})
    return rows


def _row(text: str, why: str) -> dict[str, Any]:
    groups, share, kept, how, error, seconds, peak, last = text.split(" | ", 7)
    row: dict[str, Any] = {
        "stage": "done",
        "frozen": why,
        "with_approximate": {shown: value for value, shown in _HOW.items()}[how],
        "seconds": int(seconds),
        "peak_mb": int(peak.replace(",", "")),
    }
    if groups:
        prunable, every = groups.split(" of ")
        row |= {"prunable": int(prunable), "groups": int(every), "share": float(share)}
    if kept:
        row["kept"] = int(kept.removesuffix(" %")) / 100
    if error:
        row["error"] = float(error)
    stage = _STAGE.fullmatch(last)
    if stage is None:
        return row | {"note": last.strip()}
    return row | {"stage": stage[1], "reason": why}
