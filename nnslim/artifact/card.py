"""``README.md`` of the output directory: a model card with front matter for model hubs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple, cast

import jinja2

from nnslim.version import __version__

__all__ = ["model_card"]

_CLASSES_SHOWN = 20


class _Column(NamedTuple):
    key: str
    title: str
    format: str


_COLUMNS = (
    _Column("name", "", "s"),
    _Column("top1_pct", "top-1, %", ".2f"),
    _Column("top5_pct", "top-5, %", ".2f"),
    _Column("params", "parameters", ",d"),
    _Column("macs", "MACs", ",d"),
    _Column("bytes", "bytes", ",d"),
    _Column("latency_ms", "latency, ms", ".3g"),
)
_OPTIONAL: Mapping[str, object] = {
    "license": None,
    "base_model": None,
    "datasets": (),
    "preprocess": None,
    "classes": None,
    "notes": (),
    "command": None,
    "onnx": None,
    "version": __version__,
}


def model_card(report: Mapping[str, object]) -> str:
    """Return the Markdown of a model card.

    Args:
        report: Plain values. Required: ``name`` (the title), ``operation`` (``"prune"``,
            ``"grow"``), ``summary`` (one or two sentences) and ``results``, rows from the input
            model to the final one, each with ``name`` and any of ``top1_pct``, ``top5_pct``,
            ``params``, ``macs``, ``bytes``, ``latency_ms`` (None or absent: not measured).
            Optional: ``license`` and ``base_model`` (left out when absent, never guessed),
            ``datasets`` (names), ``preprocess`` (as ``Preprocess.to_json`` writes it),
            ``classes`` (names), ``notes`` (sentences), ``command`` (the command line), ``onnx``
            (name of the ONNX file) and ``version`` (of nnslim).

    Raises:
        KeyError: A required key is missing.

    Example:
        >>> rows = [{"name": "input", "params": 270000}, {"name": "pruned", "params": 135000}]
        >>> report = {"name": "demo", "operation": "prune", "summary": "Half.", "results": rows}
        >>> [line for line in model_card(report).splitlines() if "pruned |" in line]
        ['| pruned | 135,000 |']
    """
    rows = cast("Sequence[Mapping[str, object]]", report["results"])
    columns = [c for c in _COLUMNS if any(row.get(c.key) is not None for row in rows)]
    past = {"prune": "pruned", "grow": "grown"}.get(str(report["operation"]), "slimmed")
    values = {**_OPTIONAL, **report}
    preprocess, classes = values["preprocess"], values["classes"]
    text = _template().render(
        report=values,
        final={"top1_pct": None, **rows[-1]},
        tags=["nnslim", past, *(["onnx"] if values["onnx"] else [])],
        table=_table(columns, rows),
        counts_macs=any(column.key == "macs" for column in columns),
        preprocessing=preprocess and _preprocessing(cast("Mapping[str, object]", preprocess)),
        classes=classes and _names(cast("Sequence[str]", classes)),
        quote=_quote,
    )
    return text.rstrip() + "\n"


def _template() -> jinja2.Template:
    # Markdown, not HTML: escaping would garble it; front matter is quoted as JSON instead.
    environment = jinja2.Environment(  # noqa: S701
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("nnslim.artifact").joinpath("card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _table(
    columns: Sequence[_Column], rows: Sequence[Mapping[str, object]]
) -> list[tuple[str, ...]]:
    rules = tuple(":---" if column.key == "name" else "---:" for column in columns)
    cells = (tuple(_cell(row, column) for column in columns) for row in rows)
    return [tuple(column.title for column in columns), rules, *cells]


def _quote(value: object) -> str:
    """A JSON string, which YAML reads as the same text whatever it holds."""
    return json.dumps(str(value), ensure_ascii=False)


def _cell(row: Mapping[str, object], column: _Column) -> str:
    value = row.get(column.key)
    text = "-" if value is None else format(value, column.format)
    return text.replace("|", "\\|")


def _preprocessing(values: Mapping[str, object]) -> str:
    size = cast("Sequence[int]", values["size"])
    resize = values.get("resize")
    how = (
        f"scale the image to {size[0]} x {size[1]} pixels"
        if resize is None
        else f"scale the shorter side to {resize} pixels, crop {size[0]} x {size[1]} at the centre"
    )
    mean, std = (_numbers(cast("Sequence[float]", values[key])) for key in ("mean", "std"))
    kind = values.get("interpolation", "bilinear")
    return (
        f"{how.capitalize()} ({kind}), then `(pixel / 255 - mean) / std` "
        f"with mean {mean} and std {std}."
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _names(classes: Sequence[str]) -> str:
    more = ", ..." if len(classes) > _CLASSES_SHOWN else "."
    return ", ".join(classes[:_CLASSES_SHOWN]) + more
