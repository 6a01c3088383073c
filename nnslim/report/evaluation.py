"""The table of ``nnslim eval``: one file per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnslim.report.table import Table
from nnslim.report.units import count, milliseconds, percent, scaled, size

if TYPE_CHECKING:
    from nnslim.measure import EvalReport, FileResult

__all__ = ["evaluation_table"]

_UNKNOWN = "-"


def evaluation_table(report: EvalReport) -> Table:
    """Put the files side by side; what was not measured is a dash.

    Latency is the median and, in brackets, what nine tenths of the runs kept below, by images per
    run. Parameters of ``.onnx`` files are marked ``*``: they are the values that the file stores.
    """
    data = f"{report.data}, {count(report.n_images)} test images" if report.data else "no data"
    sizes = report.settings.batch_sizes
    headings = ["file", ">parameters", ">MACs", ">size"]
    headings += [">top-1 %", ">top-5 %"] if report.data else []
    headings += [f">ms at {n} (p90)" for n in sizes]
    names = [result.path.name for result in report.files]
    if len(set(names)) < len(names):
        names = [str(result.path) for result in report.files]
    with_accuracy = report.data is not None
    rows = [
        [name, *_cells(result, sizes, accuracy=with_accuracy)]
        for name, result in zip(names, report.files, strict=True)
    ]
    return Table.of(f"onnxruntime, {data}", [*headings, "on"], rows)


def _cells(result: FileResult, sizes: tuple[int, ...], *, accuracy: bool) -> list[str]:
    stored = "*" if result.parameters_counted == "onnx initializers" else ""
    cells = [
        count(result.n_parameters) + stored,
        _UNKNOWN if result.macs is None else scaled(result.macs),
        size(result.n_bytes),
    ]
    if accuracy:
        found = result.accuracy
        values = (None, None) if found is None else (found.top1_pct, found.top5_pct)
        cells += [_UNKNOWN if value is None else percent(value) for value in values]
    cells += [_latency(result, n) for n in sizes]
    return [*cells, result.provider_used.removesuffix("ExecutionProvider")]


def _latency(result: FileResult, batch_size: int) -> str:
    found = result.latency.get(batch_size)
    if found is None:
        return _UNKNOWN
    return f"{milliseconds(found.median_ms)} ({milliseconds(found.p90_ms)})"
