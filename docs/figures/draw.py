"""Draws the README's figure: the report's picture of a network, as one narrow SVG file.

    python docs/figures/draw.py demo/pruned/report.json docs/figures/digits.svg

It is as wide as a phone's page, so that its text can be read there.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.resources import files
from pathlib import Path

from nnslim.report.page import rendered
from nnslim.report.picture import network_picture

WIDTH = 430.0  # of which the empty part left of the arcs is cut off


def draw(report: dict[str, object]) -> str:
    """Return the picture of a report's network as an SVG file's text."""
    picture = network_picture(report["layers"], width=WIDTH)
    left = min(float(x) for arc in picture.arcs for x in re.findall(r"[MC](\S+)", arc)) - 12
    box = f"{left:.0f} 0 {WIDTH - left:.0f} {picture.height + 4:.0f}"
    size = f'width="{WIDTH - left:.0f}" height="{picture.height + 4:.0f}"'
    style = files("nnslim.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    figure = rendered("network.svg.j2", picture=picture)
    drawn = {"text", *(f".{name}" for name in re.findall(r'class="(\w+)"', figure))}
    rules = re.findall(r"^svg ((\S+) \{.*)$", style, re.MULTILINE)
    colours = style[: style.index("* {")]
    figure = re.sub(
        r'<svg viewBox="[^"]*" width="[^"]*" height="[^"]*" class="wide"',
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {size}',
        figure,
    )
    start = figure.index(">") + 1
    page = f'<rect x="{left:.0f}" width="100%" height="100%" style="fill: var(--page)"/>'
    shown = (rule for rule, name in rules if name in drawn)
    head = "\n".join(["<style>", colours.strip(), *shown, "</style>", page])
    return f"{figure[:start]}\n{head}{figure[start:]}"


def main() -> None:
    report, target = map(Path, sys.argv[1:])
    target.write_text(draw(json.loads(report.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
