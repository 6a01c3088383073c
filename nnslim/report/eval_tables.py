"""The tables of ``nnslim eval``, made from the dictionary that is its ``--json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from nnslim.report.table import Table
from nnslim.report.units import count, milliseconds, percent, scaled, size

__all__ = [
    "GATE_WORDS",
    "change_tables",
    "comparison_table",
    "evaluation_tables",
    "file_table",
    "gate_sentence",
    "gate_table",
    "speed_notes",
    "warning_lines",
]

# The values of the document are plain JSON, see ``eval.schema.json``.
Json = Mapping[str, Any]

GATE_WORDS = {
    "pass": "passed",
    "fail": "FAILED",
    "inconclusive": "inconclusive",
    "skipped": "skipped",
}
_MOST_CHANGES = 10
_STARVED = 0.9
_UNKNOWN = "-"


def evaluation_tables(document: Mapping[str, object]) -> list[Table]:
    """Return every table that has rows, the verdicts last."""
    tables = (file_table(document), comparison_table(document), *change_tables(document))
    return [table for table in (*tables, gate_table(document)) if table.rows]


def file_table(document: Mapping[str, object]) -> Table:
    """Put the files side by side; what was not measured is a dash.

    Latency is the median and, in brackets, what nine tenths of the runs kept below, by images per
    run, then the median with the copies of images and logits. Parameters of ``.onnx`` files are
    marked ``*``: they are the values that the file stores.
    """
    files = _files(document)
    sizes = dict.fromkeys(own["batch_size"] for file in files for own in file["latency"])
    data = document.get("data")
    headings = ["file", ">parameters", ">MACs", ">ONNX size"]
    headings += [">top-1, %", ">top-5, %"] if data else []
    headings += [f">ms at {n} (p90), e2e" for n in sizes]
    rows = [[_name(file["path"], document), *_cells(file, tuple(sizes), data)] for file in files]
    images = f"{data}, {count(cast('int', document['n_images']))} test images"
    title = f"onnxruntime, {images if data else 'no data'}"
    return Table.of(title, [*headings, "on"], rows)


def comparison_table(document: Mapping[str, object]) -> Table:
    """Every file against the baseline: accuracy, latency, parameters, MACs and size."""
    rows: list[list[str]] = []
    for file in _files(document):
        if file["against_baseline"] is not None:
            own = list(_compared(file["against_baseline"]))
            names = [_name(file["path"], document), *[""] * len(own)]
            rows += [[name, *row] for name, row in zip(names, own, strict=False)]
    heads = ["file", "against the baseline", ">measured", ">95 % interval"]
    return Table.of("comparison", heads, rows)


def change_tables(document: Mapping[str, object]) -> list[Table]:
    """For every compared file: the classes that change most, and what images are called instead."""
    tables: list[Table] = []
    for file in _files(document):
        drop = (file["against_baseline"] or {}).get("accuracy")
        if drop is not None and drop["moves"]:
            name = _name(file["path"], document)
            tables += [_class_table(name, drop["per_class"]), _move_table(name, drop["moves"])]
    return [table for table in tables if table.rows]


def gate_table(document: Mapping[str, object]) -> Table:
    """Every limit with what was measured, its interval and its verdict."""
    rows = [
        [
            _name(gate["path"], document),
            gate["gate"],
            _number(gate["limit"]),
            _measured(gate, gate["measured"]),
            _interval(gate),
            GATE_WORDS[gate["status"]],
        ]
        for gate in cast("Sequence[Json]", document.get("gates") or ())
    ]
    heads = ["file", "gate", ">limit", ">measured", ">95 % interval", "verdict"]
    return Table.of("gates", heads, rows)


def gate_sentence(gate: Json, document: Mapping[str, object] | None = None) -> str:
    """Say what a gate found, and why where it is unclear; with a document, by the file's name.

    Example:
        >>> gate_sentence({"gate": "max-params", "path": "a.onnx", "limit": 100, "measured": 120,
        ...                "low": None, "high": None, "status": "fail", "reason": None})
        'a.onnx: max-params FAILED: 120, limit 100'
    """
    found = "not measured" if gate["measured"] is None else _measured(gate, gate["measured"])
    interval = f" ({_interval(gate)})" if gate["low"] is not None else ""
    name = _name(gate["path"], document) if document else gate["path"]
    said = f"{name}: {gate['gate']} {GATE_WORDS[gate['status']]}: {found}{interval}"
    reason = f"; {gate['reason']}" if gate["reason"] else ""
    return f"{said}, limit {_number(gate['limit'])}{reason}"


def speed_notes(document: Mapping[str, object]) -> list[str]:
    """Say how fast each file's accuracy was measured, and what it waited for."""
    notes: list[str] = []
    for file in _files(document):
        rate, busy = file["images_per_s"], file["onnxruntime_busy"]
        if rate is None or busy is None:
            continue
        name = _name(file["path"], document)
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        said = f"{name}: accuracy at {speed} images per second, onnxruntime busy"
        said += f" {100 * busy:.0f} % of the time"
        notes.append(said if busy >= _STARVED else f"{said}, else waiting for decoded images")
    return notes


def warning_lines(document: Mapping[str, object]) -> list[str]:
    """Return each warning once, with the names of the files that it is about."""
    about: dict[str, list[str]] = {}
    files = _files(document)
    for file in files:
        for said in file["warnings"]:
            about.setdefault(str(said), []).append(_name(file["path"], document))
    lines = [str(said) for said in cast("Sequence[object]", document.get("warnings") or ())]
    for said, names in about.items():
        who = "all files" if len(names) == len(files) > 1 else ", ".join(names)
        lines.append(f"{who}: {said}")
    return lines


def _files(document: Mapping[str, object]) -> Sequence[Json]:
    return cast("Sequence[Json]", document.get("files") or ())


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
    latency = {own["batch_size"]: own for own in file["latency"]}
    for n in sizes:
        own = latency.get(n)
        times = (own["median_ms"], own["p90_ms"]) if own else ()
        cell = "{} ({})".format(*map(milliseconds, times)) if times else _UNKNOWN
        whole = own.get("e2e") if own else None
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
    for own in against["latency"]:
        interval = f"{_share(own['low'])} to {_share(own['high'])}"
        yield [f"latency at {own['batch_size']}, %", _share(own["ratio"]), interval]
    shares = {"parameters": "params_ratio", "MACs": "macs_ratio", "ONNX size": "bytes_ratio"}
    for name, key in shares.items():
        yield [f"{name}, %", _UNKNOWN if against[key] is None else _share(against[key]), ""]


def _class_table(name: str, classes: Sequence[Json]) -> Table:
    def change(own: Json) -> float:
        return own["own_pct"] - own["baseline_pct"]

    changed = [own for own in classes if change(own) != 0]
    ordered = sorted(changed, key=lambda own: -abs(change(own)))
    rows = [
        [
            str(own["name"]),
            count(own["n"]),
            percent(own["baseline_pct"]),
            percent(own["own_pct"]),
            f"{change(own):+.2f}",
        ]
        for own in ordered[:_MOST_CHANGES]
    ]
    heads = ["class", ">images", ">baseline, %", ">file, %", ">change, points"]
    title = f"{name}: top-1 by class, {_first(len(rows), len(changed))} that changed"
    return Table.of(title, heads, rows)


def _move_table(name: str, moves: Sequence[Json]) -> Table:
    rows = [
        [str(own["label"]), str(own["baseline"]), str(own["own"]), count(own["n"]), _effect(own)]
        for own in moves[:_MOST_CHANGES]
    ]
    heads = ["images of", "baseline says", "file says", ">images", "which is"]
    title = f"{name}: other answers, {_first(len(rows), len(moves))} kinds"
    return Table.of(title, heads, rows)


def _effect(move: Json) -> str:
    if move["label"] == move["baseline"]:
        return "lost"
    return "won" if move["label"] == move["own"] else "wrong as before"


def _first(shown: int, total: int) -> str:
    return f"all {total}" if shown == total else f"the largest {shown} of {count(total)}"


def _name(path: object, document: Mapping[str, object]) -> str:
    """The file's name, or its path where two files have one name; a baseline is marked."""
    files = _files(document)
    names = [str(file["path"]).rpartition("/")[2] for file in files]
    short = str(path).rpartition("/")[2]
    shown = short if names.count(short) <= 1 else str(path)
    marked = any(file["baseline"] and file["path"] == path for file in files)
    return f"{shown} (baseline)" if marked else shown


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
