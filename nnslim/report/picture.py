"""The geometry of the picture of a network: a column of layers, and arcs for what flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nnslim.report.table import Json

__all__ = ["Picture", "network_picture"]

_ROW, _JOINT_ROW = 20.0, 13.0
_CHARACTER = 6.7  # width of a monospaced character at 11 px
_LONGEST_NAME = 40
_GUTTER = 120.0
_COLOURS = 12
_JOINTS = MappingProxyType({"add": "+", "sub": "-", "mul": "x", "cat": "cat", "stack": "stack"})


@dataclass(frozen=True)
class Box:
    """A layer or joint, in pixels; colour -1 is for channels that stay."""

    y: float
    before: float
    after: float
    label: str
    text: str
    title: str
    colour: int
    joint: bool


@dataclass(frozen=True)
class Picture:
    """Boxes from top to bottom, and the arcs between them as SVG paths."""

    boxes: tuple[Box, ...]
    arcs: tuple[str, ...]
    left: float
    width: float
    height: float


def network_picture(layers: Sequence[Json], width: float = 900) -> Picture:
    """Lay a network out from top to bottom, all bars on one scale.

    Example:
        >>> layer = {"name": "c", "kind": "conv2d", "module": "stem", "before": 8, "after": 4,
        ...          "group": "stem", "inputs": []}
        >>> [box.text for box in network_picture([layer]).boxes]
        ['8 → 4']
    """
    widest = max((layer["before"] for layer in layers), default=1)
    labels = _labels(layers)
    longest = max((len(label) for label in labels), default=0)
    left = _GUTTER + _CHARACTER * longest + 14
    scale = (width - left - _CHARACTER * 16) / widest
    colours: dict[str, int] = {}
    boxes: list[Box] = []
    middle: dict[str, float] = {}
    y = 4.0
    for layer, label in zip(layers, labels, strict=True):
        joint = layer["kind"] in _JOINTS
        row = _JOINT_ROW if joint else _ROW
        group = layer["group"]
        colour = -1 if group is None else colours.setdefault(group, len(colours) % _COLOURS)
        middle[layer["name"]] = y + row / 2
        boxes.append(_box(layer, label, y, 0.0 if joint else scale, colour))
        y += row
    arcs = tuple(
        _arc(middle[source], middle[layer["name"]])
        for layer in layers
        for source in layer["inputs"]
        if source in middle
    )
    return Picture(tuple(boxes), arcs, left, width, y + 4)


def _box(layer: Json, label: str, y: float, scale: float, colour: int) -> Box:
    before, after = layer["before"], layer["after"]
    text = f"{before}" if before == after else f"{before} → {after}"
    group = f", group {layer['group']}" if layer["group"] else ", fixed"
    title = f"{layer['module'] or layer['name']} ({layer['kind']}): {text} channels{group}"
    joint = layer["kind"] in _JOINTS
    bars = round(before * scale, 1), round(after * scale, 1)
    return Box(y, *bars, label, "" if joint else text, title, colour, joint)


def _labels(layers: Sequence[Json]) -> list[str]:
    """Names of the modules; where one makes several layers, with what each is."""
    uses = Counter(layer["module"] for layer in layers if layer["kind"] not in _JOINTS)
    labels: list[str] = []
    for layer in layers:
        kind = layer["kind"].removeprefix("scaled_dot_product_")
        if kind in _JOINTS:
            labels.append(_JOINTS[kind])
        elif uses[layer["module"]] > 1:
            labels.append(
                f"{_short(layer['module'], _LONGEST_NAME - len(kind) - 1)} {kind}".strip()
            )
        else:
            labels.append(_short(layer["module"] or layer["name"]))
    return labels


def _arc(start: float, end: float) -> str:
    """A line down, or an arc to the left that bulges with its length."""
    x = _GUTTER - 6
    if end - start <= _ROW * 1.2:
        return f"M{x} {start:.1f}L{x} {end:.1f}"
    bulge = max(4.0, x - 8 - (end - start) ** 0.75)
    return f"M{x} {start:.1f}C{bulge:.1f} {start + 8:.1f} {bulge:.1f} {end - 8:.1f} {x} {end:.1f}"


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else "..." + name[3 - longest :]
