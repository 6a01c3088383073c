"""A pruning run that leaves an output directory behind: complete, or not there at all."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnslim.errors import InputError
from nnslim.measure.bench import Bench
from nnslim.pruning.latency.result import ratios_json
from nnslim.pruning.picture import picture_json
from nnslim.pruning.pipeline import plan_pruning, prune_network
from nnslim.pruning.report import config_json, plan_json, result_json
from nnslim.report.prune_page import render_html
from nnslim.run.output import RunOutput
from nnslim.run.publish import Publication, Report, data_json, model_json, publish
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

    Raises:
        InputError: The network's output or its number of classes does not fit the data.
    """

    model: LoadedModel  # its preprocessing settled
    data: Data | None

    def __post_init__(self) -> None:
        n_classes = self.model.network.n_classes
        if n_classes is None:
            raise InputError(
                f"{self.model.source}: the network does not return one (N, K) tensor of logits"
            )
        if self.data is not None:
            self.data.require_classes(n_classes)


def dry_run(subject: Subject, config: PruneConfig, context: RunContext) -> Report:
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
) -> Report:
    """Prune and write the output directory; returns the content of ``report.json``.

    Of several processes, the main one writes and measures what ships; the others return the rest.

    Raises:
        NnslimError: Whatever went wrong. Nothing is left half-written; the checkpoints of a run
            that was interrupted while training stay for ``resume``.
    """
    config = resolved(config, subject.data is not None)
    output = RunOutput(destination, config_json(config), config.seed)
    network, data = subject.model.network, subject.data
    if data is not None:
        network.classes = network.classes or data.classes
    with output.resumable(context) as resumable:
        result = prune_network(network, data, config, resumable)
    report = result_json(result)
    report |= {"model": model_json(subject.model), "data": data_json(data)}
    plan, notes = result.plan, (*subject.model.notes, *network.notes, *result.warnings)
    summary = f"Pruned to {100 * plan.after.params / plan.before.params:.1f} % of its parameters."
    rows = (("input model", "before"), ("pruned", "after"))
    compare = partial(_latency, network, config, context)
    pruned = Publication("prune", "pruned", summary, rows, notes, render_html, compare)
    return publish(output, result.network, data, report, pruned)


def _latency(dense: Network, config: PruneConfig, context: RunContext, file: Path) -> Report:
    """The pruned file against the dense network's at every batch size, as shares of its latency."""
    latency = config.latency
    if not latency.batch_sizes:
        return {"latency": []}
    session = SessionSettings(device=str(context.device), threads=latency.threads)
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        bench = Bench(dense.cpu(), Path(folder), session, latency.batch_sizes)
        ratios = bench.ratios(file, QUICK)  # a budget is checked more thoroughly
        provider = str(bench.facts()["provider_used"])
    for size, ratio in ratios.items():
        context.sink.info(
            f"latency at batch size {size}: {ratio.parent_ms:.3g} -> {ratio.candidate_ms:.3g} ms,"
            f" {100 * ratio.ratio:.1f}% ({100 * ratio.low:.1f} to {100 * ratio.high:.1f})"
        )
    return {"latency": [{**entry, "provider_used": provider} for entry in ratios_json(ratios)]}
