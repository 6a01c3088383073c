"""The geometry of the report's figures; the template draws it as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnslim.report.table import Json

__all__ = ["CHARACTER", "BarChart", "Panel", "line_panel", "nice_ticks", "shortened", "width_chart"]

CHARACTER = 6.7  # width of a monospaced character at 11 px
_LONGEST_LABEL = 44


@dataclass(frozen=True)
class Bar:
    """One group: its label, and its widths before and after, in pixels and in words."""

    label: str
    name: str
    before: float
    after: float
    text: str


@dataclass(frozen=True)
class BarChart:
    """Horizontal bars, one row each.

    Attributes:
        bars: From top to bottom.
        left: Width of the column of labels, in pixels.
        width: Of the whole figure, in pixels.
        row: Height of one row, in pixels.
    """

    bars: tuple[object, ...]
    left: float
    width: float
    row: float

    @property
    def height(self) -> float:
        """Height of the whole figure, in pixels."""
        return self.row * len(self.bars)


def width_chart(groups: Sequence[Json], width: float = 900) -> BarChart:
    """Draw the groups that may be cut, all on one scale."""
    open_groups = [g for g in groups if g["status"] != "frozen"]
    widest = max((g["width_before"] for g in open_groups), default=1)
    longest = max((len(shortened(g["name"])) for g in open_groups), default=0)
    left = CHARACTER * longest + 10
    right = CHARACTER * len(f"{widest} -> {widest}") + 10
    scale = (width - left - right) / widest
    bars = tuple(
        Bar(
            shortened(g["name"]),
            g["name"],
            round(g["width_before"] * scale, 2),
            round(g["width_after"] * scale, 2),
            _change(g["width_before"], g["width_after"]),
        )
        for g in open_groups
    )
    return BarChart(bars, round(left, 1), width, 18 if len(bars) <= 60 else 15)


def _change(before: int, after: int) -> str:
    return f"{before} \N{RIGHTWARDS ARROW} {after}" if after != before else str(before)


def shortened(name: str) -> str:
    """Drop the middle of a long name: its ends tell layers apart."""
    if len(name) <= _LONGEST_LABEL:
        return name
    half = (_LONGEST_LABEL - 1) // 2
    return f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


@dataclass(frozen=True)
class Curve:
    """Points in pixels, joined in order; a name for the legend and a class for the colour."""

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """Curves over epochs.

    Attributes:
        title: What is drawn, with its unit.
        steps: What the horizontal axis counts.
        curves: In the order of the legend; those without points are left out.
        x_ticks: Pixel and text of each tick.
        y_ticks: The same.
        box: Left, top, right and bottom of the plotting area, in pixels.
        size: Width and height, in pixels.
    """

    title: str
    steps: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    box: tuple[float, float, float, float]
    size: tuple[float, float]

    @property
    def legend(self) -> tuple[tuple[Curve, float], ...]:
        """Each curve and where its sample starts, right-aligned above the plot."""
        widths = [23 + CHARACTER * len(curve.name) + 16 for curve in self.curves]
        starts = [self.size[0] - sum(widths[n:]) for n in range(len(widths))]
        return tuple(zip(self.curves, (round(x, 1) for x in starts), strict=True))


def line_panel(
    title: str,
    epochs: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    steps: str = "epoch",
) -> Panel:
    """Lay out one line per series over the epochs or other steps; a value of None is not drawn."""
    size, box = (440.0, 260.0), (48.0, 34.0, 428.0, 216.0)
    values = [v for line in series.values() for v in line if v is not None and math.isfinite(v)]
    ticks = nice_ticks(min(values, default=0.0), max(values, default=1.0))
    low, high, first, last = ticks[0], ticks[-1], epochs[0], max(epochs[-1], epochs[0] + 1)

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = box[0] + (epoch - first) / (last - first) * (box[2] - box[0])
        y = box[3] - (value - low) / (high - low) * (box[3] - box[1])
        return round(x, 1), round(y, 1)

    curves: list[Curve] = []
    for number, (name, line) in enumerate(series.items()):
        known = [
            (e, v) for e, v in zip(epochs, line, strict=True) if v is not None and math.isfinite(v)
        ]
        if known:
            texts = tuple(f"{name}, {steps} {e:.4g}: {v:.4g}" for e, v in known)
            curves.append(Curve(name, f"line{number}", tuple(place(*p) for p in known), texts))
    whole = [t for t in nice_ticks(first, last, whole=True) if first <= t <= last]
    return Panel(
        title,
        steps,
        tuple(curves),
        tuple((place(t, low)[0], f"{t:.0f}") for t in whole),
        tuple((place(first, t)[1], f"{t:g}") for t in ticks),
        box,
        size,
    )


def nice_ticks(low: float, high: float, *, whole: bool = False) -> tuple[float, ...]:
    """Return round numbers at equal steps that enclose an interval.

    Example:
        >>> nice_ticks(0.13, 0.92)
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        >>> nice_ticks(1, 10, whole=True)
        (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    """
    span = max(high - low, abs(high) * 1e-6, 1e-12)
    rough = span / (8 if whole else 4)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    end = max(end, start + 1)
    return tuple(float(f"{n * step:.12g}") for n in range(start, end + 1))
