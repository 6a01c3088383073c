"""``report.html``: one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nnslim.report.figures import Panel, line_panel, width_chart
from nnslim.report.page import flat, rendered
from nnslim.report.picture import network_picture
from nnslim.report.prune_tables import (
    accuracy_table,
    alignment_table,
    cost_table,
    group_note,
    stages_table,
    training_table,
    trials_table,
    verdict,
)
from nnslim.report.table import Json

__all__ = ["render_html"]

_SECTIONS: Mapping[str, Callable[[Json], object]] = {
    "verdict": verdict,
    "accuracy": accuracy_table,
    "cost": cost_table,
    "epochs": training_table,
    "stages": stages_table,
    "trials": trials_table,
    "alignments": alignment_table,
}


def render_html(report: Json) -> str:
    """Return a self-contained page: inline style and figures, no scripts, nothing to load.

    Args:
        report: The content of ``report.json``; see ``prune.schema.json``. A dry run's will do.

    Example:
        >>> state = {"params": 10, "macs": 90, "bytes": 40, "top1_pct": None, "top5_pct": None,
        ...          "n_images": None}
        >>> page = render_html({"before": state, "after": state, "groups": []})
        >>> page.splitlines()[0]
        '<!doctype html>'
    """
    model, data = report.get("model"), report.get("data")
    return rendered(
        "prune.html.j2",
        title=model["source"] if model else "network",
        model=model,
        data=data,
        widths=width_chart(report["groups"]),
        picture=network_picture(report.get("layers") or ()),
        panels=(*_stage_panels(report), *_epoch_panels(report)),
        check=report.get("check"),
        notes=[*(model["notes"] if model else ()), *((data or {}).get("notes") or ())],
        warnings=report.get("warnings") or [],
        groups=report["groups"],
        group_note=group_note,
        ranges=_ranges,
        where=_where,
        settings=flat(report.get("settings") or {}),
        onnx=report.get("onnx"),
        versions=report.get("versions") or {},
        **{name: make(report) for name, make in _SECTIONS.items()},
    )


def _stage_panels(report: Json) -> tuple[Panel, ...]:
    """What is left after each stage."""
    stages = [point for point in report.get("stages") or [] if not point["taken_back"]]
    if len(stages) < 2:
        return ()
    before = report["before"]
    series = {
        "parameters": [100 * point["params"] / before["params"] for point in stages],
        "MACs": [100 * point["macs"] / max(before["macs"], 1) for point in stages],
        "validation top-1": [point["val_top1_pct"] for point in stages],
    }
    return (line_panel("%", range(1, len(stages) + 1), series, "stage"),)


def _epoch_panels(report: Json) -> tuple[Panel, ...]:
    """Loss and accuracy over the epochs."""
    training = report.get("training") or []
    if not training:
        return ()
    epochs = [epoch["epoch"] for epoch in training]
    accuracy = {
        "training": [epoch["train_top1_pct"] for epoch in training],
        "validation": [epoch["val_top1_pct"] for epoch in training],
        "dense network": [report["before"]["top1_pct"]] * len(training),
    }
    return (
        line_panel("loss", epochs, {"loss": [epoch["loss"] for epoch in training]}),
        line_panel("top-1, %", epochs, accuracy),
    )


def _ranges(indices: Sequence[int]) -> str:
    """Write sorted indices as runs: ``0-3, 7``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _where(part: Json) -> str:
    """Say where the channels stand along one dimension of a tensor."""
    text = f"{part['name']}, dim {part['dim']}"
    if "positions" in part:
        return f"{text}, scattered"
    per_channel, start = part.get("positions_per_channel", 1), part.get("start", 0)
    text += f", {per_channel} indices per channel" if per_channel != 1 else ""
    return text + (f", from {start} on" if start else "")
