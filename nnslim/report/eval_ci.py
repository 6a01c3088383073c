"""An evaluation for machines that watch: Markdown, JUnit, GitHub's annotations and outputs.

Made from the evaluation's JSON document. Pure: text in, text out.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from nnslim.report.eval_changes import change_tables
from nnslim.report.eval_document import files_of, gates_of
from nnslim.report.eval_tables import (
    GATE_WORDS,
    comparison_table,
    file_table,
    gate_sentence,
    gate_table,
    speed_notes,
    warning_lines,
)
from nnslim.report.page import rendered
from nnslim.report.table import Json, Table
from nnslim.report.units import count

__all__ = ["eval_html", "github_annotations", "junit", "markdown", "outputs"]

# GitHub shows ten annotations of a kind per step; the last says how many there are more.
_MOST_ANNOTATIONS = 9
# GitHub drops a summary of over 1024 kB whole.
_MOST_SUMMARY = 1_000_000


def markdown(document: Json) -> str:
    """Return a page for a pull request: verdict first, then the tables, then where it ran."""
    parts = [f"### nnslim eval: {_headline(document)}"]
    gates = gate_table(document)
    parts += [_markdown_table(gates)] if gates.rows else []
    parts += [_bullets(_unclear(document))]
    for table in (comparison_table(document), file_table(document)):
        parts += [f"**{_plain(table.title)}**", _markdown_table(table)] if table.rows else []
    parts += [_bullets([f"warning: {line}" for line in warning_lines(document)])]
    if changes := change_tables(document):
        shown = [f"**{_plain(table.title)}**\n\n{_markdown_table(table)}" for table in changes]
        parts.append(_folded("what changed, class by class", "\n\n".join(shown)))
    facts = [f"{key}: {value}" for key, value in _facts(document).items()]
    parts.append(_folded("where and how", _bullets([*facts, *_notes(document)])))
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text if len(text) <= _MOST_SUMMARY else f"{text[:_MOST_SUMMARY]}\n\n(cut)\n"


def junit(document: Json) -> str:
    """Return a JUnit report: a test case for each gate, measurements as properties.

    Without gates, that a file was measured is the test case: viewers take a report of none for a
    broken one.
    """
    gates = gates_of(document)
    cases = [_case(gate) for gate in gates] or [
        ET.Element("testcase", _where(file["path"], "measured")) for file in files_of(document)
    ]
    failed = sum(gate["status"] == "fail" for gate in gates)
    skipped = sum(gate["status"] in ("skipped", "inconclusive") for gate in gates)
    counts = {"tests": len(cases), "failures": failed, "errors": 0, "skipped": skipped}
    values = {key: str(value) for key, value in counts.items()}
    suite = ET.Element("testsuite", {"name": "nnslim.eval", **values, "time": "0"})
    properties = ET.SubElement(suite, "properties")
    for key, value in outputs(document).items():
        ET.SubElement(properties, "property", {"name": key, "value": value})
    suite.extend(cases)
    lines = [*warning_lines(document), *_notes(document)]
    ET.SubElement(suite, "system-out").text = _xml("\n".join(lines))
    ET.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
    )


def github_annotations(document: Json) -> list[str]:
    """Return GitHub workflow commands: an error for each failed gate, a warning for unclear ones.

    Example:
        >>> gate = {"gate": "max-params", "path": "a.onnx", "limit": 100, "measured": 120,
        ...         "low": None, "high": None, "status": "fail", "reason": None}
        >>> github_annotations({"gates": [gate], "files": []})
        ['::error title=nnslim%3A max-params::a.onnx: max-params FAILED: 120, limit 100']
    """
    lines: list[str] = []
    for kind, statuses in (("error", ("fail",)), ("warning", ("inconclusive", "skipped"))):
        chosen = [gate for gate in gates_of(document) if gate["status"] in statuses]
        for gate in chosen[:_MOST_ANNOTATIONS]:
            title = _escaped(f"nnslim: {gate['gate']}", property=True)
            lines.append(f"::{kind} title={title}::{_escaped(gate_sentence(gate))}")
        if len(chosen) > _MOST_ANNOTATIONS:
            more = f"{len(chosen) - _MOST_ANNOTATIONS} more gates, see the summary"
            lines.append(f"::{kind} title=nnslim::{more}")
    return lines


def outputs(document: Json) -> dict[str, str]:
    """Return plain values of the first file that is no baseline, for later steps of a job."""
    failed = any(gate["status"] == "fail" for gate in gates_of(document))
    result = {"verdict": "failed" if failed else "passed"}
    file = next((file for file in files_of(document) if not file["baseline"]), None)
    if file is None:
        return result
    latency = file["latency"][0]["median_ms"] if file["latency"] else None
    values = {
        "top1": file["top1_pct"],
        "params": file["n_parameters"],
        "macs": file["macs"],
        "bytes": file["onnx_bytes"],
        "latency_ms": latency,
    }
    if (against := file.get("against_baseline")) is not None:
        drop, times = against["accuracy"], against["latency"]
        values["top1_drop"] = None if drop is None else drop["top1_drop_pp"]
        values["latency_ratio"] = times[0]["ratio"] if times else None
    known = {key: value for key, value in values.items() if value is not None}
    exact = {key: str(v) if isinstance(v, int) else f"{v:.6g}" for key, v in known.items()}
    return result | exact


def eval_html(document: Json) -> str:
    """Return a self-contained page of the same tables."""
    tables = (comparison_table(document), file_table(document))
    return rendered(
        "eval.html.j2",
        headline=_headline(document),
        gates=gate_table(document),
        failed=GATE_WORDS["fail"],
        unclear=_unclear(document),
        tables=[table for table in tables if table.rows],
        changes=change_tables(document),
        warnings=warning_lines(document),
        facts={key: str(value) for key, value in _facts(document).items()},
        notes=_notes(document),
    )


def _headline(document: Json) -> str:
    gates = gates_of(document)
    if not gates:
        return "measured, no gates"
    order = ("fail", "inconclusive", "skipped", "pass")
    counts = {GATE_WORDS[s]: sum(gate["status"] == s for gate in gates) for s in order}
    return ", ".join(f"{n} {word}" for word, n in counts.items() if n)


def _unclear(document: Json) -> list[str]:
    """A sentence for every gate that has a reason."""
    return [gate_sentence(gate, document) for gate in gates_of(document) if gate["reason"]]


def _notes(document: Json) -> list[str]:
    notes = document.get("notes") or ()
    return [*speed_notes(document), *(str(note) for note in notes)]


def _facts(document: Json) -> dict[str, object]:
    versions = document.get("versions") or {}
    images = document.get("n_images") or 0
    facts = {
        "data": document.get("data"),
        "test images": count(images) if images else None,
        "device asked for": document.get("device_requested"),
        "CPU threads": document.get("cpu_threads"),
        "latency clock": document.get("latency_clock"),
    }
    return {key: value for key, value in (facts | dict(versions)).items() if value is not None}


def _case(gate: Json) -> ET.Element:
    case = ET.Element("testcase", _where(gate["path"], gate["gate"]))
    text = _xml(gate_sentence(gate))
    if gate["status"] == "fail":
        ET.SubElement(case, "failure", {"message": text, "type": "gate"}).text = text
    elif gate["status"] in ("skipped", "inconclusive"):
        ET.SubElement(case, "skipped", {"message": text})
    return case


def _where(path: object, name: object) -> dict[str, str]:
    return {"classname": _xml(str(path)), "name": str(name), "time": "0"}


def _xml(text: str) -> str:
    """Write out what XML has no way to hold, such as control characters in a file's name."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_plain(cell) for cell in cells) + " |"

    rule = ["---:" if column.align == "right" else "---" for column in table.columns]
    return "\n".join(
        [line([column.name for column in table.columns]), line(rule), *map(line, table.rows)]
    )


def _plain(text: str) -> str:
    """Keep text from being markup: a class may be called ``<b>`` or ``a|b``."""
    text = " ".join(text.split())
    for character in ("\\", "|", "*", "_", "`", "<", "["):
        text = text.replace(character, f"\\{character}")
    return text


def _escaped(text: str, *, property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property else text
