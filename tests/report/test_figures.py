"""The figures are to scale."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnslim.report.figures import line_panel, nice_ticks, width_chart
from tests.report.made import frozen, group


def test_bars_are_as_long_as_the_groups_are_wide():
    chart = width_chart(
        [group("a", 100, tuple(range(25))), frozen(), group("b", 50, tuple(range(50)))]
    )
    assert [bar.name for bar in chart.bars] == ["a", "b"]
    a, b = chart.bars
    assert a.before == pytest.approx(4 * a.after, abs=0.02)
    assert a.before == pytest.approx(2 * b.before, abs=0.02)
    assert (a.text, b.text) == ("100 \N{RIGHTWARDS ARROW} 25", "50")
    assert chart.left + a.before < chart.width
    assert chart.height == 2 * chart.row


def test_long_names_lose_their_middle_and_keep_their_ends():
    name = "features." + "denseblock3." * 8 + "denselayer24.conv1"
    (bar,) = width_chart([group(name)]).bars
    assert len(bar.label) == 43
    assert bar.label.startswith("features.denseblock3")
    assert bar.label.endswith("denselayer24.conv1")
    assert bar.name == name


@pytest.mark.parametrize("n", [0, 1, 150])
def test_any_number_of_groups(n):
    chart = width_chart([group(f"g{i}") for i in range(n)])
    assert len(chart.bars) == n
    assert all(bar.before > 0 for bar in chart.bars)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_enclose_the_interval_at_equal_steps(low, span):
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * max(1.0, abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    steps = [b - a for a, b in pairwise(ticks)]
    assert min(steps) > 0
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


def test_points_are_where_the_axes_say():
    panel = line_panel("loss", [1, 2, 3], {"loss": [0.0, 0.5, 1.0]})
    left, top, right, bottom = panel.box
    assert panel.curves[0].points == (
        (left, bottom),
        ((left + right) / 2, (top + bottom) / 2),
        (right, top),
    )
    assert {text: y for y, text in panel.y_ticks}["0"] == bottom
    assert [text for _, text in panel.x_ticks] == ["1", "2", "3"]


def test_what_was_not_measured_is_not_drawn():
    series = {"a": [1.0, None, 3.0], "b": [None, None, None], "c": [math.nan, 2.0, math.inf]}
    panel = line_panel("x", [1, 2, 3], series)
    assert {curve.name: len(curve.points) for curve in panel.curves} == {"a": 2, "c": 1}
    assert len(panel.legend) == 2


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-1.0, -1.0], [1e-9, 2e-9], [1e9, 1e9]])
def test_flat_and_tiny_curves_stay_inside(values):
    panel = line_panel("x", list(range(1, len(values) + 1)), {"a": values})
    left, top, right, bottom = panel.box
    for x, y in panel.curves[0].points:
        assert left <= x <= right
        assert top - 0.1 <= y <= bottom + 0.1
