"""``report.html``: one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from nnslim.report.figures import Panel, line_panel, width_chart
from nnslim.report.page import flat, rendered
from nnslim.report.picture import network_picture
from nnslim.report.prune_document import Epoch, PruneReport, StageResult, TensorPart
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

__all__ = ["render_html"]

_SECTIONS: Mapping[str, Callable[[Mapping[str, object]], object]] = {
    "verdict": verdict,
    "accuracy": accuracy_table,
    "cost": cost_table,
    "epochs": training_table,
    "stages": stages_table,
    "trials": trials_table,
    "alignments": alignment_table,
}


def render_html(report: Mapping[str, object]) -> str:
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
    document = cast("PruneReport", report)
    model, data = document.get("model"), document.get("data")
    return rendered(
        "prune.html.j2",
        title=model["source"] if model else "network",
        model=model,
        data=data,
        widths=width_chart(document["groups"]),
        picture=network_picture(document.get("layers") or ()),
        panels=_panels(document),
        check=document.get("check"),
        notes=[*(model["notes"] if model else ()), *_strings((data or {}).get("notes"))],
        warnings=document.get("warnings") or [],
        groups=document["groups"],
        group_note=group_note,
        ranges=_ranges,
        where=_where,
        settings=flat(document.get("settings") or {}),
        onnx=document.get("onnx"),
        versions=document.get("versions") or {},
        **{name: make(report) for name, make in _SECTIONS.items()},
    )


def _panels(document: PruneReport) -> tuple[Panel, ...]:
    """What is left after each stage; loss and accuracy over the epochs."""
    return (*_stage_panels(document), *_epoch_panels(document))


def _stage_panels(document: PruneReport) -> tuple[Panel, ...]:
    stages: Sequence[StageResult] = [
        point for point in document.get("stages") or [] if not point["taken_back"]
    ]
    if len(stages) < 2:
        return ()
    before = document["before"]
    series: dict[str, Sequence[float | None]] = {
        "parameters": [100 * point["params"] / before["params"] for point in stages],
        "MACs": [100 * point["macs"] / max(before["macs"], 1) for point in stages],
        "validation top-1": [point["val_top1_pct"] for point in stages],
    }
    return (line_panel("%", range(1, len(stages) + 1), series, "stage"),)


def _epoch_panels(document: PruneReport) -> tuple[Panel, ...]:
    training: Sequence[Epoch] = document.get("training") or []
    if not training:
        return ()
    epochs = [epoch["epoch"] for epoch in training]
    accuracy: dict[str, Sequence[float | None]] = {
        "training": [epoch["train_top1_pct"] for epoch in training],
        "validation": [epoch["val_top1_pct"] for epoch in training],
        "dense network": [document["before"]["top1_pct"]] * len(training),
    }
    return (
        line_panel("loss", epochs, {"loss": [epoch["loss"] for epoch in training]}),
        line_panel("top-1, %", epochs, accuracy),
    )


def _strings(values: object) -> list[str]:
    return [str(value) for value in cast("Sequence[object]", values)] if values else []


def _ranges(indices: Sequence[int]) -> str:
    """Write sorted indices as runs: ``0-3, 7``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _where(part: TensorPart) -> str:
    """Say where the channels stand along one dimension of a tensor."""
    text = f"{part['name']}, dim {part['dim']}"
    if "positions" in part:
        return f"{text}, scattered"
    per_channel, start = part.get("positions_per_channel", 1), part.get("start", 0)
    text += f", {per_channel} indices per channel" if per_channel != 1 else ""
    return text + (f", from {start} on" if start else "")
