"""An evaluation for machines that watch: Markdown, JUnit, GitHub's annotations and outputs.

Made from the dictionary that is ``nnslim eval --json``. Pure: text in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from xml.etree import ElementTree as ET

from nnslim.report.page import rendered
from nnslim.report.table import Table
from nnslim.report.units import count, milliseconds, percent, scaled, size

__all__ = [
    "change_tables",
    "comparison_table",
    "eval_html",
    "gate_table",
    "github_annotations",
    "junit",
    "markdown",
    "outputs",
]

Json = Mapping[str, Any]

_WORDS = {"pass": "passed", "fail": "FAILED", "inconclusive": "inconclusive", "skipped": "skipped"}
# GitHub shows ten annotations of a kind per step; the last says how many there are more.
_MOST_ANNOTATIONS = 9
# GitHub drops a summary of over 1024 kB whole.
_MOST_SUMMARY = 1_000_000
_MOST_CHANGES = 10
_UNKNOWN = "-"


def gate_table(document: Mapping[str, object]) -> Table:
    """Every limit with what was measured, its interval and its verdict."""
    rows = [
        [
            _name(gate["path"], document),
            gate["gate"],
            _number(gate["limit"]),
            _number(gate["measured"]),
            _interval(gate),
            _WORDS[gate["status"]],
        ]
        for gate in _gates(document)
    ]
    return Table.of("gates", ["file", "gate", ">limit", ">measured", ">95 %", "verdict"], rows)


def comparison_table(document: Mapping[str, object]) -> Table:
    """Every file against the baseline: accuracy lost, latency, parameters, MACs."""
    rows: list[list[str]] = []
    for file in _files(document):
        against = file["against_baseline"]
        if against is None:
            continue
        drop = against["accuracy"]
        cells = [_name(file["path"], document)]
        if drop is None:
            cells += [_UNKNOWN, _UNKNOWN]
        else:
            interval = f"{drop['low']:+.2f} to {drop['high']:+.2f}"
            cells += [f"{drop['top1_drop_pp']:+.2f} ({interval})", f"{drop['agreement_pct']:.1f}"]
        shares = [
            f"{own['batch_size']}: {_share(own['ratio'])} ({_share(own['low'])} to"
            f" {_share(own['high'])})"
            for own in against["latency"]
        ]
        cells.append(", ".join(shares) or _UNKNOWN)
        cells.append(_share(against["params_ratio"]))
        cells.append(_UNKNOWN if against["macs_ratio"] is None else _share(against["macs_ratio"]))
        rows.append(cells)
    heads = ["file", ">top-1 lost, points", ">agree, %"]
    return Table.of("comparison", [*heads, ">latency, %", ">parameters, %", ">MACs, %"], rows)


def change_tables(document: Mapping[str, object]) -> list[Table]:
    """For every compared file: the classes that change most, and what images are called instead."""
    tables: list[Table] = []
    for file in _files(document):
        drop = (file["against_baseline"] or {}).get("accuracy")
        if drop is None or not drop["moves"]:
            continue
        name = _name(file["path"], document)
        classes = sorted(drop["per_class"], key=lambda own: own["own_pct"] - own["baseline_pct"])
        changed = [own for own in classes if own["own_pct"] != own["baseline_pct"]]
        rows = [
            [
                str(own["name"]),
                count(own["n"]),
                percent(own["baseline_pct"]),
                percent(own["own_pct"]),
                f"{own['own_pct'] - own['baseline_pct']:+.2f}",
            ]
            for own in changed[:_MOST_CHANGES]
        ]
        heads = ["class", ">images", ">baseline, %", ">file, %", ">change"]
        tables.append(Table.of(f"{name}: classes, worst change first", heads, rows))
        moves = [
            [str(own["label"]), str(own["baseline"]), str(own["own"]), count(own["n"])]
            for own in drop["moves"][:_MOST_CHANGES]
        ]
        heads = ["images of", "baseline says", "file says", ">images"]
        tables.append(Table.of(f"{name}: most frequent changes", heads, moves))
    return tables


def markdown(document: Mapping[str, object]) -> str:
    """Return a page for a pull request: verdict first, then the tables, then where it ran."""
    tables = (gate_table(document), comparison_table(document), _file_table(document))
    parts = [f"### nnslim eval: {_headline(document)}"]
    parts += [_markdown_table(table) for table in tables if table.rows]
    if changes := [table for table in change_tables(document) if table.rows]:
        shown = [f"{table.title}\n\n{_markdown_table(table)}" for table in changes]
        head = "<details><summary>what changed, by class</summary>"
        parts.append("\n\n".join([head, *shown, "</details>"]))
    notes = [f"- {note}" for note in cast("Sequence[str]", document["notes"])]
    facts = [f"- {key}: {value}" for key, value in _facts(document).items()]
    details = "\n".join(["<details><summary>where and how</summary>", "", *facts, *notes, ""])
    text = "\n\n".join([*parts, f"{details}\n</details>"]) + "\n"
    return text if len(text) <= _MOST_SUMMARY else f"{text[:_MOST_SUMMARY]}\n\n(cut)\n"


def junit(document: Mapping[str, object]) -> str:
    """Return a JUnit report: a test case for each gate, measurements as properties."""
    gates = _gates(document)
    failed = sum(gate["status"] == "fail" for gate in gates)
    skipped = sum(gate["status"] in ("skipped", "inconclusive") for gate in gates)
    counts = {"tests": len(gates), "failures": failed, "skipped": skipped, "errors": 0}
    suite = ET.Element(
        "testsuite", {"name": "nnslim.eval", **{k: str(v) for k, v in counts.items()}}
    )
    properties = ET.SubElement(suite, "properties")
    for key, value in outputs(document).items():
        ET.SubElement(properties, "property", {"name": key, "value": value})
    for gate in gates:
        where = {"classname": str(gate["path"]), "name": str(gate["gate"]), "time": "0"}
        case = ET.SubElement(suite, "testcase", where)
        said = _sentence(gate)
        if gate["status"] == "fail":
            ET.SubElement(case, "failure", {"message": said, "type": "gate"}).text = said
        elif gate["status"] in ("skipped", "inconclusive"):
            ET.SubElement(case, "skipped", {"message": said})
    ET.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
    )


def github_annotations(document: Mapping[str, object]) -> list[str]:
    """Return GitHub workflow commands: an error for each failed gate, a warning for unclear ones.

    Example:
        >>> gate = {"gate": "max-params", "path": "a.onnx", "limit": 100, "measured": 120,
        ...         "low": None, "high": None, "status": "fail", "reason": None}
        >>> github_annotations({"gates": [gate], "files": []})
        ['::error title=nnslim%3A max-params::a.onnx: max-params FAILED: 120, limit 100']
    """
    lines: list[str] = []
    for kind, statuses in (("error", ("fail",)), ("warning", ("inconclusive", "skipped"))):
        found = [gate for gate in _gates(document) if gate["status"] in statuses]
        for gate in found[:_MOST_ANNOTATIONS]:
            title = _escaped(f"nnslim: {gate['gate']}", property=True)
            lines.append(f"::{kind} title={title}::{_escaped(_sentence(gate))}")
        if len(found) > _MOST_ANNOTATIONS:
            more = f"{len(found) - _MOST_ANNOTATIONS} more gates, see the summary"
            lines.append(f"::{kind} title=nnslim::{more}")
    return lines


def outputs(document: Mapping[str, object]) -> dict[str, str]:
    """Return plain values of the first file that is no baseline, for later steps of a job."""
    result = {"verdict": "failed" if _failed(document) else "passed"}
    file = next((file for file in _files(document) if not file["baseline"]), None)
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
    return result | {key: f"{v:.6g}" for key, v in values.items() if v is not None}


def eval_html(document: Mapping[str, object]) -> str:
    """Return a self-contained page of the same tables."""
    tables = (gate_table(document), comparison_table(document), _file_table(document))
    tables = (*tables, *change_tables(document))
    return rendered(
        "eval.html.j2",
        headline=_headline(document),
        tables=[table for table in tables if table.rows],
        facts={key: str(value) for key, value in _facts(document).items()},
        notes=document["notes"],
    )


def _gates(document: Mapping[str, object]) -> Sequence[Json]:
    return cast("Sequence[Json]", document.get("gates") or [])


def _files(document: Mapping[str, object]) -> Sequence[Json]:
    return cast("Sequence[Json]", document.get("files") or [])


def _failed(document: Mapping[str, object]) -> int:
    return sum(gate["status"] == "fail" for gate in _gates(document))


def _headline(document: Mapping[str, object]) -> str:
    gates = _gates(document)
    if not gates:
        return "measured, no gates"
    counts = {word: sum(g["status"] == status for g in gates) for status, word in _WORDS.items()}
    return ", ".join(f"{n} {word}" for word, n in counts.items() if n)


def _file_table(document: Mapping[str, object]) -> Table:
    rows: list[list[str]] = []
    for file in _files(document):
        times = [
            f"{own['batch_size']}: {milliseconds(own['median_ms'])}" for own in file["latency"]
        ]
        baseline = " (baseline)" if file["baseline"] else ""
        rows.append(
            [
                _name(file["path"], document) + baseline,
                _UNKNOWN if file["top1_pct"] is None else percent(file["top1_pct"]),
                ", ".join(times) or _UNKNOWN,
                count(file["n_parameters"]),
                _UNKNOWN if file["macs"] is None else scaled(file["macs"]),
                size(file["onnx_bytes"]),
                str(file["provider_used"]).removesuffix("ExecutionProvider"),
            ]
        )
    heads = ["file", ">top-1, %", ">ms by batch", ">parameters", ">MACs", ">size", "on"]
    return Table.of("files", heads, rows)


def _facts(document: Mapping[str, object]) -> dict[str, object]:
    versions = cast("Mapping[str, str]", document.get("versions") or {})
    found = {
        "data": document.get("data"),
        "test images": document.get("n_images"),
        "device asked for": document.get("device_requested"),
        "CPU threads": document.get("cpu_threads"),
        "latency clock": document.get("latency_clock"),
    }
    return {key: value for key, value in (found | dict(versions)).items() if value is not None}


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---:" if column.align == "right" else "---" for column in table.columns]
    return "\n".join(
        [line([column.name for column in table.columns]), line(rule), *map(line, table.rows)]
    )


def _name(path: object, document: Mapping[str, object]) -> str:
    """The file's name, or its path where two files have one name."""
    names = [str(file["path"]).rpartition("/")[2] for file in _files(document)]
    short = str(path).rpartition("/")[2]
    return short if names.count(short) <= 1 else str(path)


def _sentence(gate: Json) -> str:
    found = "not measured" if gate["measured"] is None else _number(gate["measured"])
    interval = f" ({_interval(gate)})" if gate["low"] is not None else ""
    said = f"{gate['path']}: {gate['gate']} {_WORDS[gate['status']]}: {found}{interval}"
    return f"{said}, limit {_number(gate['limit'])}" + (
        f"; {gate['reason']}" if gate["reason"] else ""
    )


def _interval(gate: Json) -> str:
    return _UNKNOWN if gate["low"] is None else f"{gate['low']:.4g} to {gate['high']:.4g}"


def _number(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.1f}"


def _escaped(text: str, *, property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property else text
