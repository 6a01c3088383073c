"""A growing run that leaves an output directory behind: complete, or not there at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from nnslim.growing.pipeline import grow_network
from nnslim.growing.report import grow_json
from nnslim.report.grow_page import grow_verdict, render_grow_html
from nnslim.run.output import RunOutput
from nnslim.run.publish import Publication, Report, data_json, model_json, publish
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
    """What is grown, from which teacher, and on what."""

    teacher: LoadedModel
    seed: LoadedModel | None  # None narrows the teacher
    data: Data


def run_grow(
    subject: GrowSubject, config: GrowConfig, destination: Destination, context: RunContext
) -> Report:
    """Grow and write the output directory; returns the content of ``report.json``.

    Of several processes, the main one writes and measures what ships; the others return the rest.

    Raises:
        NnslimError: Whatever went wrong. Nothing is left half-written; what an interrupted run has
            finished stays for ``resume``.
    """
    settings = resolved(config, has_seed=subject.seed is not None)
    output = RunOutput(destination, asdict(settings), config.seed)
    teacher, data = subject.teacher.network, subject.data
    with output.resumable(context) as resumable:
        seed = None if subject.seed is None else subject.seed.network
        result = grow_network(teacher, data, config, resumable, seed)
    report = grow_json(result, teacher)
    report["model"] = model_json(subject.seed or subject.teacher)
    report["teacher_model"] = model_json(subject.teacher)
    report["data"] = data_json(data)
    summary = f"Grown by channel planting: {grow_verdict(report)}"
    rows = (("teacher", "teacher"), ("seed", "seed"), ("grown", "after"))
    grown = Publication("grow", "grown", summary, rows, result.warnings, render_grow_html)
    return publish(output, result.network, data, report, grown)
