"""Tables and page of a growing run, made from the dictionary that is its ``report.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnslim.report.figures import CHARACTER, BarChart, Panel, line_panel, shortened
from nnslim.report.page import flat, rendered
from nnslim.report.table import Json, Table
from nnslim.report.units import count, percent, scaled

__all__ = ["grow_tables", "grow_verdict", "render_grow_html"]


def grow_tables(report: Json) -> tuple[Table, ...]:
    """Return what the command line shows: the networks, and the rounds between them."""
    return _networks(report), _rounds(report)


def grow_verdict(report: Json) -> str:
    """Say in one sentence what was reached and at what size.

    Example:
        >>> teacher = {"params": 1000, "macs": 9000, "top1_pct": 93.0}
        >>> seed = {"params": 50, "macs": 400, "top1_pct": 80.0}
        >>> grown = {"params": 200, "macs": 1800, "top1_pct": 90.0}
        >>> grow_verdict({"teacher": teacher, "seed": seed, "after": grown})
        '90.00 % top-1 with 20.0 % of the parameters of the teacher (93.00 %); seed: 80.00 %.'
    """
    teacher, seed, after = (report[key] for key in ("teacher", "seed", "after"))
    share = 100 * after["params"] / teacher["params"]
    return (
        f"{percent(after['top1_pct'])} % top-1 with {share:.1f} % of the parameters of the teacher"
        f" ({percent(teacher['top1_pct'])} %); seed: {percent(seed['top1_pct'])} %."
    )


def _networks(report: Json) -> Table:
    rows: list[list[str]] = []
    for name in ("teacher", "seed", "grown", "polished"):
        state = report.get(name)
        if state is not None:
            values = (count(state["params"]), scaled(state["macs"]), percent(state["top1_pct"]))
            rows.append([name, *values])
    images = report["after"]["n_images"]
    title = f"accuracy on {count(images)} {report['split']} images"
    return Table.of(title, ["", ">parameters", ">MACs", ">top-1, %"], rows)


def _rounds(report: Json) -> Table:
    rows: list[list[str]] = []
    for entry in report["rounds"]:
        judged = entry["judged"]
        rows.append(
            [
                str(entry["round"]),
                f"{entry['count']} into {entry['group']}",
                str(len(entry["candidates"])),
                count(entry["params"]),
                scaled(entry["macs"]),
                percent(judged["top1_pct"]),
                f"{judged['loss']:.4f}",
            ]
        )
    heads = [">round", "planted", ">tried", ">parameters", ">MACs", ">top-1, %", ">loss"]
    return Table.of("rounds, on the validation images", heads, rows)


def _candidates(round_: Json) -> tuple[str, Table]:
    rows = [
        [
            f"{entry['group']}, failed" if entry.get("failed") else str(entry["group"]),
            str(entry["count"]),
            count(entry["params"]),
            percent(entry["judged"]["top1_pct"]),
            f"{entry['gain']:+.4f}",
            f"{entry['gain_per_cost']:+.2e}",
            f"{entry['seconds']:.1f}",
        ]
        for entry in round_["candidates"]
    ]
    heads = ["group", ">channels", ">parameters", ">top-1, %", ">gain", ">gain per cost", ">s"]
    title = f"round {round_['round']}: {len(rows)} candidates, {round_['group']} kept"
    return title, Table.of("", heads, rows)


def render_grow_html(report: Json) -> str:
    """Return a self-contained page: inline style and figures, no scripts.

    Args:
        report: The content of ``report.json`` of a growing run.
    """
    model, rounds = report["model"], report["rounds"]
    return rendered(
        "grow.html.j2",
        title=model["source"],
        data=report["data"],
        verdict=grow_verdict(report),
        warnings=report["warnings"],
        networks=_networks(report),
        panels=_panels(report, rounds),
        stopped=report["stopped"],
        widths=_width_figure(report, rounds),
        rounds=_rounds(report),
        candidates=[_candidates(round_) for round_ in rounds],
        onnx=report.get("onnx"),
        settings=flat(report["settings"]),
        versions=report.get("versions") or {},
    )


def _panels(report: Json, rounds: Sequence[Json]) -> tuple[Panel, ...]:
    """Accuracy by parameters, in percent of the teacher's; loss over the rounds."""
    if not rounds:
        return ()
    teacher, seed = report["teacher"], report["seed"]
    states = [
        (seed["params"], seed["val"]),
        *((round_["params"], round_["judged"]) for round_ in rounds),
    ]
    shares = [100 * params / teacher["params"] for params, _ in states]
    top1 = {
        "seed": [seed["val"]["top1_pct"]] * len(states),
        "grown": [judged["top1_pct"] for _, judged in states],
        "teacher": [teacher["val"]["top1_pct"]] * len(states),
    }
    return (
        line_panel("validation top-1, %", shares, top1, "parameters, %"),
        line_panel(
            "validation loss",
            range(len(states)),
            {"grown": [judged["loss"] for _, judged in states]},
            "round",
        ),
    )


@dataclass(frozen=True)
class _Piece:
    round: int
    x: float
    width: float
    opacity: float
    text: str


@dataclass(frozen=True)
class _Row:
    label: str
    name: str
    pieces: tuple[_Piece, ...]
    end: float
    text: str


def _width_figure(report: Json, rounds: Sequence[Json]) -> BarChart:
    """One bar per group: the seed's channels, then what each round planted."""
    seed = report["seed_widths"]
    final = rounds[-1]["widths"] if rounds else seed
    widest = max(final.values(), default=1)
    longest = max((len(shortened(name)) for name in seed), default=0)
    left, width = CHARACTER * longest + 10, 900.0
    scale = (width - left - 80) / widest
    rows: list[_Row] = []
    for name, first in seed.items():
        pieces = [_Piece(0, left, round(first * scale, 2), 1.0, f"{first} in the seed")]
        before = first
        for number, round_ in enumerate(rounds, start=1):
            now = round_["widths"].get(name, before)
            if now > before:
                x = round(left + before * scale, 2)
                opacity = round(0.35 + 0.65 * number / len(rounds), 2)
                text = f"{now - before} planted in round {number}"
                pieces.append(_Piece(number, x, round((now - before) * scale, 2), opacity, text))
                before = now
        end = round(left + before * scale, 1)
        rows.append(_Row(shortened(name), name, tuple(pieces), end, f"{first} \u2192 {before}"))
    return BarChart(tuple(rows), round(left, 1), width, 18)
