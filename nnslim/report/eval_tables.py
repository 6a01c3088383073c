"""The tables of an evaluation, made from its JSON document."""

from __future__ import annotations

from collections.abc import Iterator

from nnslim.report.eval_changes import change_tables
from nnslim.report.eval_document import file_name, files_of, gates_of
from nnslim.report.table import Json, Table
from nnslim.report.units import count, milliseconds, percent, scaled, size

__all__ = [
    "GATE_WORDS",
    "comparison_table",
    "evaluation_tables",
    "file_table",
    "gate_sentence",
    "gate_table",
    "speed_notes",
    "warning_lines",
]

GATE_WORDS = {
    "pass": "passed",
    "fail": "FAILED",
    "inconclusive": "inconclusive",
    "skipped": "skipped",
}
_STARVED = 0.9
_UNKNOWN = "-"


def evaluation_tables(document: Json) -> list[Table]:
    """Return every table that has rows, the verdicts last."""
    tables = (file_table(document), comparison_table(document), *change_tables(document))
    return [table for table in (*tables, gate_table(document)) if table.rows]


def file_table(document: Json) -> Table:
    """Put the files side by side; what was not measured is a dash.

    Latency is the median and, in brackets, what nine tenths of the runs kept below, by images per
    run, then the median with the copies of images and logits. Parameters of ``.onnx`` files are
    marked ``*``: they are the values that the file stores.
    """
    files = files_of(document)
    sizes = dict.fromkeys(entry["batch_size"] for file in files for entry in file["latency"])
    data = document.get("data")
    headings = ["file", ">parameters", ">MACs", ">ONNX size"]
    headings += [">top-1, %", ">top-5, %"] if data else []
    headings += [f">ms at {n} (p90), e2e" for n in sizes]
    rows = [
        [file_name(file["path"], document), *_cells(file, tuple(sizes), data)] for file in files
    ]
    images = f"{data}, {count(document['n_images'])} test images"
    title = f"onnxruntime, {images if data else 'no data'}"
    return Table.of(title, [*headings, "on"], rows)


def comparison_table(document: Json) -> Table:
    """Every file against the baseline: accuracy, latency, parameters, MACs and size."""
    rows: list[list[str]] = []
    for file in files_of(document):
        if file["against_baseline"] is not None:
            name = file_name(file["path"], document)
            for row in _compared(file["against_baseline"]):
                rows.append([name, *row])
                name = ""
    heads = ["file", "against the baseline", ">measured", ">95 % interval"]
    return Table.of("comparison", heads, rows)


def gate_table(document: Json) -> Table:
    """Every limit with what was measured, its interval and its verdict."""
    rows = [
        [
            file_name(gate["path"], document),
            gate["gate"],
            _number(gate["limit"]),
            _measured(gate, gate["measured"]),
            _interval(gate),
            GATE_WORDS[gate["status"]],
        ]
        for gate in gates_of(document)
    ]
    heads = ["file", "gate", ">limit", ">measured", ">95 % interval", "verdict"]
    return Table.of("gates", heads, rows)


def gate_sentence(gate: Json, document: Json | None = None) -> str:
    """Say what a gate measured, and why where it is unclear; with a document, by the file's name.

    Example:
        >>> gate_sentence({"gate": "max-params", "path": "a.onnx", "limit": 100, "measured": 120,
        ...                "low": None, "high": None, "status": "fail", "reason": None})
        'a.onnx: max-params FAILED: 120, limit 100'
    """
    value = "not measured" if gate["measured"] is None else _measured(gate, gate["measured"])
    interval = f" ({_interval(gate)})" if gate["low"] is not None else ""
    name = file_name(gate["path"], document) if document else gate["path"]
    verdict = f"{name}: {gate['gate']} {GATE_WORDS[gate['status']]}: {value}{interval}"
    reason = f"; {gate['reason']}" if gate["reason"] else ""
    return f"{verdict}, limit {_number(gate['limit'])}{reason}"


def speed_notes(document: Json) -> list[str]:
    """Say how fast each file's accuracy was measured, and what it waited for."""
    notes: list[str] = []
    for file in files_of(document):
        rate, busy = file["images_per_s"], file["onnxruntime_busy"]
        if rate is None or busy is None:
            continue
        name = file_name(file["path"], document)
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        note = f"{name}: accuracy at {speed} images per second, onnxruntime busy"
        note += f" {100 * busy:.0f} % of the time"
        notes.append(note if busy >= _STARVED else f"{note}, else waiting for decoded images")
    return notes


def warning_lines(document: Json) -> list[str]:
    """Return each warning once, with the names of the files that it is about."""
    about: dict[str, list[str]] = {}
    files = files_of(document)
    for file in files:
        for warning in file["warnings"]:
            about.setdefault(str(warning), []).append(file_name(file["path"], document))
    lines = [str(text) for text in document.get("warnings") or ()]
    for warning, names in about.items():
        who = "all files" if len(names) == len(files) > 1 else ", ".join(names)
        lines.append(f"{who}: {warning}")
    return lines


def _cells(file: Json, sizes: tuple[int, ...], data: object) -> list[str]:
    stored = "*" if file["parameters_counted"] == "onnx initializers" else ""
    cells = [
        count(file["n_parameters"]) + stored,
        _UNKNOWN if file["macs"] is None else scaled(file["macs"]),
        size(file["onnx_bytes"]),
    ]
    if data:
        tops = (file["top1_pct"], file["top5_pct"])
        cells += [_UNKNOWN if top is None else percent(top) for top in tops]
    by_size = {entry["batch_size"]: entry for entry in file["latency"]}
    for n in sizes:
        latency = by_size.get(n)
        times = (latency["median_ms"], latency["p90_ms"]) if latency else ()
        cell = "{} ({})".format(*map(milliseconds, times)) if times else _UNKNOWN
        whole = latency.get("e2e") if latency else None
        cells.append(f"{cell}, {milliseconds(whole['median_ms'])}" if whole else cell)
    return [*cells, str(file["provider_used"]).removesuffix("ExecutionProvider")]


def _compared(against: Json) -> Iterator[list[str]]:
    drop = against["accuracy"]
    if drop is not None:
        interval = f"{drop['low']:+.2f} to {drop['high']:+.2f}"
        yield ["top-1 lost, points", f"{drop['top1_drop_pp']:+.2f}", interval]
        images = f"{count(drop['lost'])} / {count(drop['won'])}"
        yield ["images lost / won", images, ""]
        yield ["images called the same, %", percent(drop["agreement_pct"]), ""]
        if (points := drop["worst_class_drop_pp"]) > 0:
            yield [f"most lost by a class, points: {drop['worst_class']}", f"{points:+.2f}", ""]
    for latency in against["latency"]:
        interval = f"{_share(latency['low'])} to {_share(latency['high'])}"
        yield [f"latency at {latency['batch_size']}, %", _share(latency["ratio"]), interval]
    shares = {"parameters": "params_ratio", "MACs": "macs_ratio", "ONNX size": "bytes_ratio"}
    for name, key in shares.items():
        yield [f"{name}, %", _UNKNOWN if against[key] is None else _share(against[key]), ""]


def _interval(gate: Json) -> str:
    if gate["low"] is None:
        return _UNKNOWN
    return f"{_measured(gate, gate['low'])} to {_measured(gate, gate['high'])}"


def _measured(gate: Json, value: float | None) -> str:
    """Accuracies and their differences have the decimals that 10,000 images resolve."""
    if value is None or gate["gate"] not in ("min-top1", "max-drop"):
        return _number(value)
    return percent(value) if gate["gate"] == "min-top1" else f"{value:+.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    if isinstance(value, int):
        return count(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.1f}"
