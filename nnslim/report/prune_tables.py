"""The tables of a pruning report, made from the dictionary that is its ``report.json``."""

from __future__ import annotations

from collections.abc import Sequence

from nnslim.report.table import Json, Table
from nnslim.report.units import count, percent, scaled, size

__all__ = [
    "accuracy_table",
    "alignment_table",
    "cost_table",
    "group_note",
    "prune_tables",
    "stages_table",
    "training_table",
    "trials_table",
    "verdict",
]

_LAYERS_SHOWN = 1
_UNKNOWN = "-"
# Stages between the dense network and the last one, as the table of accuracies calls them.
_STAGE_NAMES = {
    "sparse": "after sparse training",
    "cut": "right after the removal",
    "refitted": "with its weights fitted anew",
    "calibrated": "with new batch norm statistics",
}


def prune_tables(report: Json) -> tuple[Table, ...]:
    """Return what the command line shows: of a dry run the plan, of a run what came out."""
    if "check" in report:
        return tuple(table for table in (accuracy_table(report), cost_table(report)) if table.rows)
    return group_table(report), frozen_table(report), cost_table(report)


def verdict(report: Json) -> str:
    """Say in one sentence what remains and what it costs.

    Example:
        >>> state = {"params": 1000, "macs": 5000, "bytes": 4000, "top1_pct": None}
        >>> verdict({"before": state, "after": {**state, "params": 500, "macs": 2100}})
        '50.0 % of the parameters and 42.0 % of the MACs remain; accuracy was not measured.'
    """
    before, after = report["before"], report["after"]
    kept = f"{_share(after['params'], before['params'])} of the parameters and"
    kept = f"{kept} {_share(after['macs'], before['macs'])} of the MACs remain"
    was, now = before["top1_pct"], after["top1_pct"]
    if was is None or now is None:
        return f"{kept}; accuracy was not measured."
    images = f" on {count(after['n_images'])} images" if after["n_images"] else ""
    change = f"{now - was:+.2f} points{images}"
    return f"{kept}; top-1 went from {percent(was)} % to {percent(now)} % ({change})."


def cost_table(report: Json) -> Table:
    """Compare parameters, MACs, bytes and, where it was measured, latency with its interval."""
    before, after = report["before"], report["after"]
    rows = [
        ["parameters", count(before["params"]), count(after["params"])],
        ["MACs", scaled(before["macs"]), scaled(after["macs"])],
        ["size of the tensors", size(before["bytes"]), size(after["bytes"])],
    ]
    shares = (_share(after[key], before[key]) for key in ("params", "macs", "bytes"))
    full = [[*row, share] for row, share in zip(rows, shares, strict=True)]
    for latency in report.get("latency") or []:
        name = f"latency, batch {latency['batch_size']}, ms"
        times = [f"{latency[key]:.3g}" for key in ("parent_ms", "candidate_ms")]
        half = 50 * (latency["high"] - latency["low"])
        full.append([name, *times, f"{100 * latency['ratio']:.1f} ± {half:.1f} %"])
    return Table.of("Cost", ["", ">before", ">after", ">remains"], full)


def accuracy_table(report: Json) -> Table:
    """Follow the accuracy from the dense network to the file that ships; no rows without data."""
    before, after = report["before"], report["after"]
    tuning = [e for e in report.get("training") or [] if e["stage"] == "tuned"]
    tuned = f"after fine-tuning ({len(tuning)} epochs)"
    steps: list[tuple[str, object, object]] = [
        ("before", before["top1_pct"], before["top5_pct"]),
        *(
            (_STAGE_NAMES[stage["stage"]], stage["top1_pct"], None)
            for stage in report.get("stages") or []
            if stage["stage"] in _STAGE_NAMES
        ),
        (tuned if tuning else "after", after["top1_pct"], after["top5_pct"]),
        ("in onnxruntime", (report.get("onnx") or {}).get("top1_pct"), None),
    ]
    rows = [
        [name, _percent(top1), _percent(top5), _points(top1, before["top1_pct"])]
        for name, top1, top5 in steps
        if top1 is not None
    ]
    images = f" on {count(after['n_images'])} images" if after["n_images"] else ""
    return Table.of(f"Accuracy{images}", ["", ">top-1 %", ">top-5 %", ">change"], rows)


def group_table(report: Json) -> Table:
    """List the channel groups that can be cut: their layers and widths, and why one stays whole."""
    rows = [
        [g["name"], _layers(g), str(g["width_before"]), str(g["width_after"]), _brief(g)]
        for g in report["groups"]
        if g["status"] != "frozen"
    ]
    return Table.of("Channel groups", ["group", "layers", ">now", ">after", "note"], rows)


def frozen_table(report: Json) -> Table:
    """Count the channel groups that must stay, by reason; the HTML page lists each."""
    by_reason: dict[str, list[Json]] = {}
    for group in report["groups"]:
        if group["status"] == "frozen":
            by_reason.setdefault(str(group["reason"]), []).append(group)
    rows = [
        [reason, str(len(groups)), str(sum(group["width_before"] for group in groups))]
        for reason, groups in by_reason.items()
    ]
    return Table.of("Channels that stay", ["reason", ">groups", ">channels"], rows)


def _brief(group: Json) -> str:
    """The note without its place, which the HTML page has."""
    return group_note(group).partition(" (")[0]


def group_note(group: Json) -> str:
    """Say why a group stays whole, or that cutting it is approximate."""
    if group["reason"] is None:
        return ""
    return f"{group['status']}: {group['reason']}" if group["status"] != "free" else group["reason"]


def training_table(report: Json) -> Table:
    """List the epochs of every training."""
    figures = [">loss", ">training top-1 %", ">validation top-1 %", ">rate", ">seconds"]
    rows = [
        [
            str(epoch["epoch"]),
            epoch["stage"],
            f"{epoch['loss']:.4f}",
            percent(epoch["train_top1_pct"]),
            _percent(epoch["val_top1_pct"]),
            f"{epoch['lr']:.3g}",
            f"{epoch['seconds']:.3g}",
        ]
        for epoch in report.get("training") or []
    ]
    return Table.of("Epochs", [">epoch", "stage", *figures], rows)


def stages_table(report: Json) -> Table:
    """Follow the network from stage to stage: what is left of it, and how well it does."""
    rows = [
        [_stage(row), count(row["params"]), *_remain(row, report), _percent(row["val_top1_pct"])]
        for row in report.get("stages") or []
    ]
    headings = ["stage", ">parameters", ">remain", ">MACs remain", ">validation top-1 %"]
    return Table.of("From stage to stage", headings, rows)


def trials_table(report: Json) -> Table:
    """List what was measured on the way to a latency budget, and the check of the plan."""
    search = report.get("latency_search")
    if search is None:
        return Table("", (), ())
    rows = [
        [
            str(n),
            *_remain(row, report),
            _hundredths(row["estimated_ratio"]),
            _ratios(row["measured"]),
        ]
        for n, row in enumerate(search["trials"], start=1)
    ]
    target = f"target {_hundredths(search['target_ratio'])}"
    rows.append(["check", "", "", target, _ratios(search["check"])])
    headings = [">trial", ">parameters", ">MACs", ">estimated", "measured, of the latency before"]
    return Table.of(f"Plans measured for a latency of {search['budget']}", headings, rows)


def alignment_table(report: Json) -> Table:
    """List the multiples that were tried for an alignment of ``auto``."""
    choice = report.get("alignment")
    if choice is None:
        return Table("", (), ())
    rows = [
        [
            f"{row['align']}" + ", chosen" * (row["align"] == choice["align"]),
            *_remain(row, report),
            _UNKNOWN if row["lost_score"] is None else f"{row['lost_score']:.3g}",
            _ratios(row["measured"]) or row["why_not"] or _UNKNOWN,
        ]
        for row in choice["candidates"]
    ]
    headings = ["multiple of", ">parameters", ">MACs", ">score lost"]
    headings.append("measured, of the latency before")
    return Table.of(f"Alignment: {choice['reason']}", headings, rows)


def _ratios(measured: Sequence[Json]) -> str:
    return "; ".join(
        f"batch {row['batch_size']}: {_hundredths(row['ratio'])}"
        f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
        for row in measured
    )


def _stage(point: Json) -> str:
    name = f"{point['stage']} {point['round']}" if point["round"] else point["stage"]
    return f"{name}, taken back" if point["taken_back"] else name


def _layers(group: Json) -> str:
    shown, rest = group["layers"][:_LAYERS_SHOWN], len(group["layers"]) - _LAYERS_SHOWN
    return ", ".join(shown) + (f", +{rest}" if rest > 0 else "")


def _remain(state: Json, report: Json) -> list[str]:
    """The shares of the parameters and of the MACs."""
    return [_share(state[key], report["before"][key]) for key in ("params", "macs")]


def _share(part: float | None, whole: float) -> str:
    return _UNKNOWN if part is None or not whole else _hundredths(part / whole)


def _hundredths(share: float) -> str:
    return f"{100 * share:.1f} %"


def _percent(value: object) -> str:
    return percent(value) if isinstance(value, (int, float)) else _UNKNOWN


def _points(value: object, reference: object) -> str:
    if isinstance(value, (int, float)) and isinstance(reference, (int, float)):
        return f"{value - reference:+.2f}" if value != reference else ""
    return ""
