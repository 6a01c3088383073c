"""The page of the sweep is also its memory."""

from __future__ import annotations

from pathlib import Path

from tests.sweep.page import coverage_page, rows_of_page

PAGE = (Path(__file__).parents[2] / "docs/reference/coverage.md").read_text(encoding="utf-8")


def test_the_page_can_be_written_again_from_the_rows_it_shows():
    rows = rows_of_page(PAGE)
    assert len(rows) == PAGE.count("\n| `") > 100
    assert coverage_page(rows) == PAGE


def test_a_row_says_where_a_model_stopped():
    failed = {"stage": "onnx", "reason": "SomeError: a | b: c"}
    rows = [{**row, **failed} if n == 3 else row for n, row in enumerate(rows_of_page(PAGE))]
    page = coverage_page(rows)
    again = rows_of_page(page)
    assert {key: again[3][key] for key in failed} == failed
    assert coverage_page(again) == page
