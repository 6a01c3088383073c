"""The outputs of ``nnslim eval``: they fit, they parse, and they say what the result holds."""

from __future__ import annotations

import copy
import io
import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from nnslim.cli.output import Output
from nnslim.report.eval_ci import eval_html, github_annotations, junit, markdown, outputs
from nnslim.report.eval_tables import (
    change_tables,
    evaluation_tables,
    file_table,
    speed_notes,
    warning_lines,
)
from tests.report.conftest import LONG, gated


def text_of(document) -> str:
    stream = io.StringIO()
    Output(stdout=stream).result({}, *evaluation_tables(document))
    return stream.getvalue()


def characters(text: str) -> Counter[str]:
    """All but spaces and rules: folding moves them and loses none."""
    return Counter(re.sub(r"[\s-]", "", text))


def check_fit(document) -> str:
    text = text_of(document)
    assert max(map(len, text.splitlines())) <= 100
    tables = evaluation_tables(document)
    cells = [cell for table in tables for row in table.rows for cell in row]
    heads = [column.name for table in tables for column in table.columns]
    titles = [table.title for table in tables]
    assert characters(text) == characters("".join([*titles, *heads, *cells]))
    return text


def test_the_text_fits_nothing_is_cut_off_and_no_number_is_folded(compared):
    text = check_fit(compared)
    for table in evaluation_tables(compared):
        right = [index for index, column in enumerate(table.columns) if column.align == "right"]
        assert all(word in text for row in table.rows for i in right for word in row[i].split())


def test_many_batch_sizes_and_huge_numbers_still_fit(compared):
    document = copy.deepcopy(compared)
    for file in document["files"]:
        file |= {"n_parameters": 1_234_567_890}
        file["latency"] = [own | {"batch_size": n} for own in file["latency"] for n in (1, 128)]
    check_fit(document)


def test_changes_are_counted_from_the_document(compared):
    classes, moves = change_tables(compared)[:2]
    drop = compared["files"][0]["against_baseline"]["accuracy"]
    assert "worse.onnx" in classes.title
    lost = sum(int(row[3]) for row in moves.rows if row[4] == "lost")
    assert 0 < lost == drop["lost"]  # at most ten kinds: all are shown
    assert len(drop["moves"]) <= 10
    changes = [float(row[4]) for row in classes.rows]
    assert changes == sorted(changes, key=lambda own: -abs(own))
    assert min(changes) == pytest.approx(-drop["worst_class_drop_pp"], abs=0.005)


def test_only_the_ten_largest_changes_are_shown_and_the_title_says_so(compared):
    document = copy.deepcopy(compared)
    drop = document["files"][0]["against_baseline"]["accuracy"]
    gains = zip(drop["per_class"], (0, -50, 80), strict=False)
    drop["per_class"] = [
        own | {"baseline_pct": 50, "own_pct": 50 + gain / 2} for own, gain in gains
    ]
    drop["moves"] = [{"label": "a", "baseline": "a", "own": f"{n}", "n": 50 - n} for n in range(12)]
    classes, moves = change_tables(document)[:2]
    assert [row[4] for row in classes.rows] == ["+40.00", "-25.00"]
    assert [row[2] for row in moves.rows] == [str(n) for n in range(10)]
    assert "the largest 10 of 12" in moves.title


class _Checked(HTMLParser):
    """Knows whether all that was opened is closed, and what is to be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_closed_loads_nothing_and_escapes_names(compared):
    page = _Checked()
    page.feed(eval_html(compared))
    assert (page.open, page.loads) == ([], [])
    assert any("<b>_*" in text for text in page.text)
    assert "FAILED" in page.text


def test_markdown_rows_are_as_wide_as_their_heads(compared):
    text = markdown(compared)
    assert text.startswith("### nnslim eval: ")
    assert "<b>" not in text.replace(r"\<b>", "")
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        width = width if line.startswith("|") and width else cells
        assert cells == width
    assert f"{LONG}.onnx" in text.replace("\\", "")


# From the common junit-10.xsd: attributes that must be, and children in an order.
ATTRIBUTES = {"testsuite": {"name", "tests", "failures"}, "testcase": {"name", "classname", "time"}}
CHILDREN = {
    "testsuite": ["properties", "testcase", "system-out"],
    "properties": ["property"],
    "testcase": ["skipped", "failure"],
}


def check_junit(element: ET.Element) -> None:
    assert ATTRIBUTES.get(element.tag, set()) <= set(element.attrib)
    order = [CHILDREN[element.tag].index(child.tag) for child in element]
    assert order == sorted(order)
    if element.tag == "failure":
        assert element.get("message")
        assert element.text
    for child in element:
        check_junit(child)


def test_junit_is_what_viewers_read(compared):
    suite = ET.fromstring(junit(compared))
    check_junit(suite)
    cases = suite.findall("testcase")
    status = [gate["status"] for gate in compared["gates"]]
    assert int(suite.get("tests", "")) == len(cases) == len(status)
    assert (
        int(suite.get("failures", "")) == len(suite.findall(".//failure")) == status.count("fail")
    )
    named = {(case.get("classname"), case.get("name")) for case in cases}
    assert named == {(gate["path"], gate["gate"]) for gate in compared["gates"]}


def test_junit_without_gates_still_has_a_case_for_each_file(compared):
    document = compared | {"gates": []}
    document["files"] = [file | {"path": f"\x1b{file['path']}"} for file in compared["files"]]
    suite = ET.fromstring(junit(document))
    check_junit(suite)
    assert len(suite.findall("testcase")) == 3


def test_outputs_are_exact(compared):
    document = copy.deepcopy(compared)
    document["files"][0] |= {"onnx_bytes": 1_083_123, "macs": 40_551_041}
    found = outputs(document)
    assert (found["bytes"], found["macs"], found["verdict"]) == ("1083123", "40551041", "failed")
    assert outputs(compared | {"gates": []})["verdict"] == "passed"


def test_annotations_are_as_many_as_github_shows(compared):
    gate = compared["gates"][0] | {"status": "fail", "path": "100%\n::error::"}
    lines = github_annotations({"gates": [gate] * 12, "files": []})
    assert len(lines) == 10
    assert "3 more gates" in lines[-1]
    assert all("\n" not in line and "100%25%0A" in line for line in lines[:-1])


def test_what_all_files_share_is_said_once(compared):
    document = copy.deepcopy(compared)
    for file in document["files"]:
        file["warnings"] = ["on the CPU"]
    document["files"][0]["warnings"].append("odd")
    document["warnings"] = ["busy"]
    assert warning_lines(document) == ["busy", "all files: on the CPU", "worse.onnx: odd"]


def test_speed_says_whether_decoding_was_waited_for(compared):
    document = copy.deepcopy(compared)
    for file, busy in zip(document["files"], (0.95, 0.5, None), strict=True):
        file |= {"images_per_s": 1234.5, "onnxruntime_busy": busy}
    first, second = speed_notes(document)
    assert (
        first
        == "worse.onnx: accuracy at 1,234 images per second, onnxruntime busy 95 % of the time"
    )
    assert second.endswith("50 % of the time, else waiting for decoded images")


def test_files_of_one_name_are_told_apart_by_path(compared):
    document = copy.deepcopy(compared)
    paths = ["/a/model.onnx", "/b/model.onnx", "/c/other.onnx"]
    for file, path in zip(document["files"], paths, strict=True):
        file["path"] = path
    names = [row[0] for row in file_table(document).rows]
    assert names == ["/a/model.onnx", "/b/model.onnx", "other.onnx (baseline)"]


def test_every_file_is_there(compared, place):
    assert [file["path"] for file in compared["files"]] == [str(f.path) for f in gated(place)]
