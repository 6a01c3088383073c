"""``nnslim grow``: plant channels into a small network, taught by a large one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnslim.errors import ConfigError, NnslimError

if TYPE_CHECKING:
    from nnslim.cli.command import Call
    from nnslim.data import Data
    from nnslim.models import LoadedModel
    from nnslim.settings.commands import GrowCommand
    from nnslim.sink import Sink

__all__ = ["ARGUMENTS", "EXAMPLES", "grow_command"]

ARGUMENTS = {
    "seed_model": Annotated[
        Path | None,
        typer.Argument(
            metavar="SEED",
            help="The small network to plant into, any model file. Without it, the teacher's own "
            "graph is narrowed.",
        ),
    ]
}
EXAMPLES = (
    "nnslim grow --teacher teacher.pt --data photos/ --params 20% -o grown/",
    "nnslim grow small.safetensors --teacher teacher.pt --data photos/ --macs 8M",
    "nnslim grow --teacher teacher.pt --data photos/ --target-accuracy 90",
)


def grow_command(call: Call[GrowCommand]) -> None:
    """Plant channels where they help most, keep what was learned, and stop at the budget."""
    import torch

    from nnslim.cli.prune import existing
    from nnslim.data.sources import open_data
    from nnslim.growing.run import GrowSubject, run_grow
    from nnslim.models.opening import open_model
    from nnslim.processes import connected, is_main, local_device
    from nnslim.report.grow_page import grow_tables
    from nnslim.run.context import RunContext
    from nnslim.run.device import training_device
    from nnslim.run.output import Destination
    from nnslim.settings.resolve import resolved
    from nnslim.sink import SILENT
    from nnslim.train import flush_denormals

    call.context.with_resource(flush_denormals(torch.device("cpu")))
    settings, seed_file = call.settings, call.arguments["seed_model"]
    sink = call.sink if is_main() else SILENT
    if settings.teacher is None:
        raise ConfigError("growing needs a teacher", hint="give [[teacher=MODEL]]")
    resolved(settings.config, has_seed=seed_file is not None)
    images = open_data(settings.data, settings.config.seed, sink)
    if images is None:
        raise ConfigError("growing needs images to train on", hint="give [[data]]")
    teacher = open_model(settings.teacher, settings.model, settings.preprocess, images, sink)
    seed = None if seed_file is None else _open_seed(seed_file, settings, images, teacher, sink)
    output, argv = settings.output, ("nnslim", *sys.argv[1:])
    inputs = existing(seed_file, settings.teacher, settings.data.source)
    place = Destination(output.out, output.overwrite, output.resume, argv, inputs)
    device = training_device(settings.compute)
    with connected(device):
        context = RunContext(local_device(device), sink, workers=settings.compute.workers)
        report = run_grow(GrowSubject(teacher, seed, images), settings.config, place, context)
    if is_main():
        ended = f"growing ended: {report['stopped']}"
        call.sink.result(report, *grow_tables(report), ended, f"wrote {output.out}")


def _open_seed(
    path: Path, settings: GrowCommand, images: Data, teacher: LoadedModel, sink: Sink
) -> LoadedModel:
    """Open the seed; where its file does not say how it sees images, it sees the teacher's."""
    from nnslim.models.opening import open_model
    from nnslim.settings.inputs import ModelSettings

    seen = replace(
        images, name="the teacher", preprocess=teacher.network.preprocess or images.preprocess
    )
    asked = settings.seed_model
    model = ModelSettings(asked.arch, asked.arch_arg, settings.model.trust_pickle)
    try:
        return open_model(path, model, settings.preprocess, seen, sink)
    except NnslimError as error:
        raise type(error)(*error.named(_of_the_seed)) from error


def _of_the_seed(path: str, value: str | None) -> str:
    """The loader speaks of the teacher's settings; the seed has settings of its own."""
    own = {"arch": "seed_model.arch", "arch_arg": "seed_model.arch_arg"}.get(path, path)
    return f"[[{own}]]" if value is None else f"[[{own}={value}]]"
