"""``nnslim prune``: remove channels to a budget, prove it, recover, and write the result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nnslim.cli.command import Call
    from nnslim.pruning.run import Subject
    from nnslim.run.context import RunContext
    from nnslim.settings.commands import PruneCommand

__all__ = ["ARGUMENTS", "EXAMPLES", "existing", "prune_command"]

ARGUMENTS = {
    "model": Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="A .safetensors of nnslim, a state dict (.pt, .pth, .th, .safetensors) or a .pt2. "
            "Without it, --arch gives a network with random weights.",
        ),
    ]
}
EXAMPLES = (
    "nnslim prune model.pt --data photos/ --params 50% -o slim/",
    "nnslim prune model.pt --params 50% --dry-run",
    "nnslim prune model.pt --data photos/ --latency 60% --profile best",
)


def prune_command(call: Call[PruneCommand]) -> None:
    """Remove the channels that matter least, until a budget holds, and fine-tune what is left."""
    import torch

    from nnslim.data.sources import open_data
    from nnslim.models.opening import open_model
    from nnslim.processes import connected, is_main, local_device
    from nnslim.pruning.run import Subject
    from nnslim.report.prune_tables import prune_tables
    from nnslim.run.context import RunContext
    from nnslim.run.device import training_device
    from nnslim.settings.resolve import resolved
    from nnslim.sink import SILENT
    from nnslim.train import flush_denormals

    # Before any tensor is touched: torch's worker threads copy the setting when they start.
    call.context.with_resource(flush_denormals(torch.device("cpu")))
    settings, model = call.settings, call.arguments["model"]
    sink = call.sink if is_main() else SILENT
    if model is None and settings.model.arch is None:
        raise ConfigError(
            "nothing to prune", hint="give a MODEL file, or [[arch=NAME]] for random weights"
        )
    output = settings.output
    if output.html is not None and not output.dry_run:
        raise ConfigError(
            "[[html]] belongs to [[dry_run]]", hint="a run writes report.html into its directory"
        )
    resolved(
        settings.config, settings.data.source is not None
    )  # what cannot hold is refused at once
    images = open_data(settings.data, settings.config.seed, sink)
    subject = Subject(open_model(model, settings.model, settings.preprocess, images, sink), images)
    device = training_device(settings.compute)
    with connected(device):
        context = RunContext(local_device(device), sink, workers=settings.compute.workers)
        report, written = _run(subject, settings, existing(model, settings.data.source), context)
    if is_main():
        closing = () if written is None else (f"wrote {written}",)
        call.sink.result(report, *prune_tables(report), *closing)


def _run(
    subject: Subject, settings: PruneCommand, inputs: tuple[Path, ...], context: RunContext
) -> tuple[dict[str, Any], Path | None]:
    """Plan or prune; returns the report and what was written."""
    from nnslim.artifact import write_page
    from nnslim.pruning.run import dry_run, run_prune
    from nnslim.report.prune_page import render_html
    from nnslim.run.output import Destination

    output = settings.output
    if not output.dry_run:
        argv = ("nnslim", *sys.argv[1:])
        place = Destination(output.out, output.overwrite, output.resume, argv, inputs)
        return run_prune(subject, settings.config, place, context), output.out
    report = dry_run(subject, settings.config, context)
    if output.html is not None:
        write_page(output.html, render_html(report), overwrite=output.overwrite)
    return report, output.html


def existing(*inputs: str | Path | None) -> tuple[Path, ...]:
    """Return those inputs that are files or folders, for the record."""
    paths: Iterable[Path] = (Path(own) for own in inputs if own)
    return tuple(path for path in paths if path.exists())
