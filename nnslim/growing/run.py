"""A growing run that leaves an output directory behind: complete, or not there at all."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nnslim.artifact import save_network
from nnslim.artifact.manifest import versions
from nnslim.growing.pipeline import grow_network
from nnslim.growing.report import grow_json
from nnslim.processes import is_main
from nnslim.report.grow_page import grow_verdict, render_grow_html
from nnslim.run.output import RunOutput
from nnslim.run.publish import data_json, export_and_measure, model_json
from nnslim.settings.resolve import resolved

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.models import LoadedModel
    from nnslim.run.context import RunContext
    from nnslim.run.output import Destination
    from nnslim.settings.grow import GrowConfig

__all__ = ["GrowSubject", "run_grow"]


@dataclass(frozen=True)
class GrowSubject:
    """What is grown, by whom it is taught, and on what.

    Attributes:
        teacher: The opened teacher.
        seed: The opened seed, or None to narrow the teacher.
        data: Labelled images.
    """

    teacher: LoadedModel
    seed: LoadedModel | None
    data: Data


def run_grow(
    subject: GrowSubject, config: GrowConfig, destination: Destination, context: RunContext
) -> dict[str, object]:
    """Grow and write the output directory; returns the content of ``report.json``.

    Of several processes, the main one writes and measures what ships; the others return the rest.

    Raises:
        NnslimError: Whatever went wrong. Nothing is left half-written; what an interrupted run has
            finished stays for ``resume``.
    """
    settings = resolved(config, has_seed=subject.seed is not None)
    output = RunOutput(destination, asdict(settings), config.seed)
    with output.resumable(context.sink) as checkpoints:
        result = grow_network(
            subject.teacher.network,
            subject.data,
            config,
            replace(context, checkpoints=checkpoints),
            None if subject.seed is None else subject.seed.network,
        )
    report = grow_json(result, subject.teacher.network)
    report["model"] = model_json(subject.seed or subject.teacher)
    report["teacher_model"] = model_json(subject.teacher)
    report["data"] = data_json(subject.data)
    if not is_main():
        return report
    with output.directory as run:
        save_network(result.network, run.file("model.safetensors"))
        report["onnx"] = export_and_measure(result.network, subject.data, run.file("model.onnx"))
        report["versions"] = versions()
        output.close(run, report, render_grow_html(report), _card(report, destination))
    return report


def _card(report: dict[str, object], destination: Destination) -> dict[str, object]:
    """What the model card needs, from the report."""
    model = cast("dict[str, object]", report["model"])
    data = cast("dict[str, object]", report["data"])
    rows = [
        {"name": name, **cast("dict[str, object]", report[key])}
        for name, key in (("teacher", "teacher"), ("seed", "seed"), ("grown", "after"))
    ]
    return {
        "name": f"{Path(str(model['source'])).stem}, grown",
        "operation": "grow",
        "summary": f"Grown by channel planting: {grow_verdict(report)}",
        "results": rows,
        "datasets": (str(data["name"]),),
        "preprocess": model["preprocess"],
        "classes": model["classes"],
        "notes": tuple(cast("list[str]", report["warnings"])),
        "command": shlex.join(destination.argv),
        "onnx": "model.onnx",
    }
