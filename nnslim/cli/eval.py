"""``nnslim eval``: accuracy, latency and size of what would ship, and gates on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnslim.errors import ConfigError, GateFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nnslim.cli.command import Call
    from nnslim.data import Data
    from nnslim.measure.results import EvalFile, EvalReport
    from nnslim.settings.commands import EvalCommand
    from nnslim.sink import Sink

__all__ = ["ARGUMENTS", "EXAMPLES", "eval_command"]

ARGUMENTS = {
    "files": Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="Models or result folders: .onnx is measured as it is, others are exported first.",
        ),
    ]
}
EXAMPLES = (
    "nnslim eval slim/ --data photos/",
    "nnslim eval slim/ --baseline model.pt --data photos/ --max-drop 1",
    "nnslim eval slim/model.onnx --max-params 140k --report gates.xml",
)


def eval_command(call: Call[EvalCommand]) -> None:
    """Measure accuracy, latency, parameters, multiply-adds and size in onnxruntime."""
    if not call.arguments["files"]:
        raise ConfigError("nothing to measure", hint="give a FILE")
    from nnslim.cli.eval_output import check_reports, publish, write_reports
    from nnslim.data.sources import open_data
    from nnslim.measure.gates import check_gates
    from nnslim.measure.samples import check_samples, write_samples
    from nnslim.report.eval_tables import evaluation_tables, speed_notes, warning_lines

    settings, sink = call.settings, call.sink
    _check_gates(settings)
    overwrite, samples = settings.output.overwrite, settings.reports.samples
    reports = check_reports([Path(own) for own in settings.reports.report], overwrite=overwrite)
    sample_file = check_samples(samples, overwrite=overwrite) if samples else None
    images = open_data(settings.data, settings.config.seed, sink)
    result = _evaluate(call, images)
    gates = [verdict.to_json() for verdict in check_gates(result, settings.gates)]
    document = {**result.to_json(), "gates": gates}
    for warning in warning_lines(document):
        sink.warn(warning)
    known = images.notes if images else ()  # said when the data was opened
    for note in (*(note for note in result.notes if note not in known), *speed_notes(document)):
        sink.info(note)
    sink.result(document, *evaluation_tables(document))
    write_reports(reports, document, overwrite=overwrite)
    if sample_file is not None:
        write_samples(sample_file, result)
    publish(document, sink)
    _require(gates, document, sink, strict=settings.reports.strict)


def _check_gates(settings: EvalCommand) -> None:
    """Refuse gates on what will not be measured."""
    gates = settings.gates
    if settings.data.source is None and (gates.min_top1 is not None or gates.max_drop is not None):
        name = "min_top1" if gates.min_top1 is not None else "max_drop"
        raise ConfigError(f"[[gates.{name}]] needs images to measure on", hint="give [[data]]")
    if settings.reports.baseline is None and gates.needs_baseline:
        raise ConfigError(
            f"[[{gates.needs_baseline}]] needs something to compare with", hint="give [[baseline]]"
        )


def _evaluate(call: Call[EvalCommand], images: Data | None) -> EvalReport:
    from nnslim.measure.evaluation import evaluate
    from nnslim.models.opening import chosen_preprocess

    settings, config = call.settings, call.settings.config
    subjects = _subjects(call, images)
    asked = images is not None or settings.preprocess.names_colours
    preprocess = None
    if asked:
        preprocess = chosen_preprocess(settings.preprocess, images.preprocess if images else None)
    n_steps = 2 * len(subjects) + len(config.batch_sizes)
    n_steps += len(subjects) - 1 if settings.reports.baseline is not None else 0
    with call.sink.progress("evaluating", n_steps, each=True) as work:
        begun = 0

        def on_step(what: str) -> None:
            nonlocal begun
            work.advance(min(begun, 1), note=what)  # what was begun before is done now
            begun += 1

        return evaluate(subjects, images, config, preprocess=preprocess, on_step=on_step)


def _subjects(call: Call[EvalCommand], data: Data | None) -> list[EvalFile]:
    """Open what is not ONNX; the architecture is for files that do not bring their own graph."""
    from nnslim.measure.results import EvalFile
    from nnslim.models.formats import file_kind, model_file
    from nnslim.models.opening import open_model

    settings, baseline = call.settings, call.settings.reports.baseline
    paths = [(model_file(path), False) for path in call.arguments["files"]]
    if baseline is not None:
        paths.append((model_file(baseline), True))
    subjects: list[EvalFile] = []
    for path, is_baseline in paths:
        kind = file_kind(path)
        model = settings.model
        if kind in {"nnslim", "exported"} and len(paths) > 1:
            model = replace(model, arch=None, arch_arg=())
        network = None
        if kind != "onnx":
            network = open_model(path, model, settings.preprocess, data, call.sink).network
        subjects.append(EvalFile(path, baseline=is_baseline, network=network))
    return subjects


def _require(
    gates: Sequence[Mapping[str, object]],
    document: Mapping[str, object],
    sink: Sink,
    *,
    strict: bool,
) -> None:
    """End with exit code 1 where a gate failed; warn of what is unclear, or fail under strict."""
    from nnslim.report.eval_tables import gate_sentence

    broken = ("fail", "inconclusive", "skipped") if strict else ("fail",)
    for gate in gates:
        if gate["status"] in ("inconclusive", "skipped"):
            sink.warn(gate_sentence(gate, document))
    failed = [gate_sentence(gate, document) for gate in gates if gate["status"] in broken]
    if failed:
        raise GateFailedError(f"{len(failed)} of {len(gates)} gates failed: {'; '.join(failed)}")
