"""The page stands alone, says everything, and trusts no name."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from nnslim.report.prune_page import render_html
from tests.report.made import cut_only, frozen, group, plan, whole

REPORTS = {"dry run": plan(), "no data": cut_only(), "whole": whole(), "one epoch": whole(1)}
VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page and insists that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_the_page_stands_alone(report):
    text = render_html(report)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    for name, value in page.attributes:
        assert name not in {"src", "href", "onload", "onclick"}
        assert "url(" not in (value or "")
    assert "@import" not in text
    assert "://" not in text
    assert not re.search(r"\b(None|Undefined|nan)\b", page.text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_page_says_what_happened():
    text = Page(render_html(whole())).text
    for part in (
        "net.pt",
        "top-1 went from 91.73 % to 90.41 %",
        "cifar_resnet20, 1,000 parameters, 4 classes; data cifar10: 45,000 training",
        "right after the removal 38.20",
        "The run",
        "3 epochs in numbers",
        "Largest relative difference: 1.3e-15 (at batch_norm_17 ), allowed: 1e-09",
        "computing in float32 alone changes the original by 7.0e-07",
        "the architecture was recognised",
        "frozen: network output",
        "kept: 0-2, 5",
        "limits.params.amount 0.5",
        "model.onnx , opset 20",
        "torch 2.14.1",
    ):
        assert part in text, part


def test_a_dry_run_says_so_and_shows_no_check():
    text = Page(render_html(plan())).text
    assert "plan only: nothing was cut" in text
    assert "Check: cut = masked" not in text
    assert "The run" not in text


def test_what_was_measured_on_the_way_to_a_latency_is_there():
    one = {"batch_size": 8, "ratio": 0.61, "low": 0.6, "high": 0.62}
    trial = {"params": 500, "macs": 2500, "estimated_ratio": 0.55, "measured": [one]}
    check = [{**one, "ratio": 0.587}]
    search = {"budget": "60%", "target_ratio": 0.6, "trials": [trial], "check": check}
    other = {"align": 8, "params": None, "macs": None, "lost_score": None, "measured": []}
    tried = [
        {"align": 1, "params": 500, "macs": 2500, "lost_score": 0.25, "measured": [one]},
        {**other, "why_not": "cannot be reached"},
    ]
    alignment = {"align": 1, "reason": "only one fits", "candidates": tried}
    report = {**whole(), "latency_search": search, "alignment": alignment}
    text = Page(render_html(report)).text
    for said in ("Plans measured for a latency of 60%", "batch 8: 61.0 % (60.0 to 62.0)", "55.0 %"):
        assert said in text
    for said in ("batch 8: 58.7 %", "Alignment: only one fits", "1, chosen", "cannot be reached"):
        assert said in text


def test_what_was_taken_back_is_called_so_and_not_drawn():
    report = whole()
    point = {**report["trail"][-1], "stage": "recovered", "round": 7, "params": 1}
    taken = {**report, "trail": [*report["trail"], {**point, "taken_back": True}]}
    assert "recovered 7, taken back" in Page(render_html(taken)).text
    figures = [re.findall("<polyline.*?>|<path.*?>", render_html(r)) for r in (report, taken)]
    assert figures[0]
    assert figures[0] == figures[1]


def test_warnings_stand_out():
    assert '<div class="warnings"' in render_html(cut_only())
    assert '<div class="warnings"' not in render_html(whole())
    report = cut_only()
    report["check"]["largest_removed_activation"] = 0
    assert "this check says nothing" in render_html(report)


HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}</svg>"


def test_names_are_text_and_nothing_else():
    report = whole()
    report["model"] |= {
        "source": HOSTILE,
        "arch": HOSTILE,
        "notes": [HOSTILE],
        "classes": [HOSTILE],
    }
    report["data"] |= {"name": HOSTILE, "notes": [HOSTILE]}
    report["warnings"], report["versions"] = [HOSTILE], {HOSTILE: HOSTILE}
    report["settings"] = {HOSTILE: {HOSTILE: HOSTILE}}
    report["check"]["worst_node"] = report["onnx"]["path"] = HOSTILE
    report["groups"] = [group(HOSTILE), frozen(HOSTILE, reason=HOSTILE)]
    page = Page(render_html(report))
    assert "script" not in page.tags
    assert page.text.count("alert(1)") > 10
    assert "49" not in page.text


def test_150_groups_render_quickly():
    report = whole(100)
    report["groups"] = [
        group(f"features.denseblock{i}.conv", 512, tuple(range(0, 512, 2))) for i in range(150)
    ]
    start = time.perf_counter()
    text = render_html(report)
    assert time.perf_counter() - start < 5
    assert text.count('class="kept"') == 150
    assert len(text) < 2_000_000


def test_rendering_is_deterministic_and_leaves_the_report_alone():
    report = whole()
    assert render_html(report) == render_html(whole())
    assert report == whole()
