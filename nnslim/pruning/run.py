"""A pruning run that leaves an output directory behind: complete, or not there at all."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nnslim.artifact import save_network
from nnslim.artifact.manifest import versions
from nnslim.errors import InputError
from nnslim.measure.bench import Bench
from nnslim.processes import is_main
from nnslim.pruning.latency.result import ratios_json
from nnslim.pruning.picture import picture_json
from nnslim.pruning.pipeline import plan_pruning, prune_network
from nnslim.pruning.report import config_json, plan_json, result_json
from nnslim.report.prune_page import render_html
from nnslim.run.output import RunOutput
from nnslim.run.publish import data_json, export_and_measure, model_json
from nnslim.settings.eval import QUICK
from nnslim.settings.resolve import resolved
from nnslim.settings.session import SessionSettings

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.models import LoadedModel
    from nnslim.network.network import Network
    from nnslim.run.context import RunContext
    from nnslim.run.output import Destination
    from nnslim.settings.prune import PruneConfig

__all__ = ["Subject", "dry_run", "run_prune"]


@dataclass(frozen=True)
class Subject:
    """What is pruned, and on what.

    Attributes:
        model: The opened model, its preprocessing settled.
        data: Labelled images, or None.

    Raises:
        InputError: The network's output or its number of classes does not fit the data.
    """

    model: LoadedModel
    data: Data | None

    def __post_init__(self) -> None:
        n_classes = self.model.network.n_classes
        if n_classes is None:
            raise InputError(
                f"{self.model.source}: the network does not return one (N, K) tensor of logits"
            )
        if self.data is not None:
            self.data.require_classes(n_classes)


def dry_run(subject: Subject, config: PruneConfig, context: RunContext) -> dict[str, object]:
    """Plan without cutting anything; returns the plan's part of ``report.json``."""
    network, config = subject.model.network, resolved(config, subject.data is not None)
    channels, planned = plan_pruning(network, subject.data, config, context)
    plan = planned.plan
    return {
        **plan_json(plan),
        **planned.to_json(),
        "layers": picture_json(channels, plan),
        "model": model_json(subject.model),
        "settings": config_json(config),
    }


def run_prune(
    subject: Subject, config: PruneConfig, destination: Destination, context: RunContext
) -> dict[str, object]:
    """Prune and write the output directory; returns the content of ``report.json``.

    Of several processes, the main one writes and measures what ships; the others return the rest.

    Raises:
        NnslimError: Whatever went wrong. Nothing is left half-written; the checkpoints of a run
            that was interrupted while training stay for ``resume``.
    """
    config = resolved(config, subject.data is not None)
    output = RunOutput(destination, config_json(config), config.seed)
    network = subject.model.network
    if subject.data is not None:
        network.classes = network.classes or subject.data.classes
    with output.resumable(context.sink) as checkpoints:
        context = replace(context, checkpoints=checkpoints)
        result = prune_network(network, subject.data, config, context)
    report = result_json(result, config)
    report["layers"] = list(result.layers)
    report["model"] = model_json(subject.model)
    report["data"] = data_json(subject.data)
    if not is_main():
        return report
    with output.directory as run:
        save_network(result.network, run.file("model.safetensors"))
        report["onnx"] = export_and_measure(result.network, subject.data, run.file("model.onnx"))
        report["latency"] = _latency(network, run.file("model.onnx"), config, context)
        report["versions"] = versions()
        output.close(run, report, render_html(report), _card(report, destination))
    return report


def _latency(
    dense: Network, file: Path, config: PruneConfig, context: RunContext
) -> list[dict[str, object]]:
    """The pruned file against the dense network's at every batch size, as shares of its latency."""
    latency = config.latency
    if not latency.batch_sizes:
        return []
    session = SessionSettings(device=str(context.device), threads=latency.threads)
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        bench = Bench(dense.cpu(), Path(folder), session, latency.batch_sizes)
        found = bench.ratios(file, QUICK)  # a budget is checked more thoroughly
        facts = bench.facts()
    for size, own in found.items():
        context.sink.info(
            f"latency at batch size {size}: {own.parent_ms:.3g} -> {own.candidate_ms:.3g} ms,"
            f" {100 * own.ratio:.1f}% ({100 * own.low:.1f} to {100 * own.high:.1f})"
        )
    provider = str(facts["provider_used"])
    return [{**own, "provider_used": provider} for own in ratios_json(found)]


def _card(report: dict[str, object], destination: Destination) -> dict[str, object]:
    """What the model card needs, from the report."""
    model = cast("dict[str, object]", report["model"])
    data = cast("dict[str, object] | None", report["data"])
    rows: list[dict[str, object]] = [
        {"name": name, **cast("dict[str, object]", report[key])}
        for name, key in (("input model", "before"), ("pruned", "after"))
    ]
    before, after = (cast("int", row["params"]) for row in rows)
    return {
        "name": f"{Path(str(model['source'])).stem}, pruned",
        "operation": "prune",
        "summary": f"Pruned to {100 * after / before:.1f} % of its parameters.",
        "results": rows,
        "datasets": (str(data["name"]),) if data else (),
        "preprocess": model["preprocess"],
        "classes": model["classes"],
        "notes": (*cast("list[str]", model["notes"]), *cast("list[str]", report["warnings"])),
        "command": shlex.join(destination.argv),
        "onnx": "model.onnx",
    }
