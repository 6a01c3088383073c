"""``nnslim grow``: plant channels into a small network, taught by a large one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nnslim.cli import options
from nnslim.cli.options import command_output, option

if TYPE_CHECKING:
    from nnslim.cli.inputs import ModelFlags
    from nnslim.data import Data
    from nnslim.models import LoadedModel
    from nnslim.report import Sink

__all__ = ["grow_command"]


def grow_command(
    context: typer.Context,
    seed_model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SEED]",
            help="The small network to plant into, any model file. Without it, the teacher's own "
            "graph is narrowed to --seed-share of the budget and trained first.",
        ),
    ] = None,
    teacher: Annotated[
        Path | None, option(help="The large network that teaches.", metavar="MODEL")
    ] = None,
    data: options.Data = None,
    out: Annotated[
        Path, option("--out", "-o", help="Directory to write the result to.", metavar="DIR")
    ] = Path("nnslim-grown"),
    params: Annotated[
        str | None,
        option(
            help="Parameters it may have: 20% of the teacher's, or 60k. [default: 20%, without "
            "another budget]",
            metavar="LIMIT",
        ),
    ] = None,
    macs: Annotated[
        str | None, option(help="Multiply-adds it may have: 20% or 8M.", metavar="LIMIT")
    ] = None,
    size: Annotated[
        str | None, option(help="Bytes of the tensors it may have: 20% or 2M.", metavar="LIMIT")
    ] = None,
    latency: Annotated[
        str | None,
        option(
            help="Latency it may have in onnxruntime, one image: 40% of the teacher's, or 1.5ms.",
            metavar="LIMIT",
        ),
    ] = None,
    target_accuracy: Annotated[
        float | None,
        option(help="Stop at this validation top-1, in percent.", min=0, max=100, metavar="PCT"),
    ] = None,
    patience: Annotated[
        int | None, option(help="Stop after this many rounds without a gain.", min=1)
    ] = None,
    rounds: Annotated[int | None, option(help="Stop after this many rounds.", min=0)] = None,
    seed_share: Annotated[
        str | None,
        option(
            help="How much of the budget the seed uses up. [default: 60%; everywhere, without "
            "--growth, 2 channels in each group]",
            metavar="PCT",
        ),
    ] = None,
    seed_width: Annotated[
        str | None,
        option(
            help="Channels of the seed instead: 12.5% of the teacher's, or 4. [default: the widest "
            "within --seed-share]",
            metavar="LIMIT",
        ),
    ] = None,
    seed_epochs: Annotated[
        int | None,
        option(
            help="Epochs of training the seed. [default: 10; with the teacher's weights, "
            "everywhere, without --growth, 0]",
            min=0,
        ),
    ] = None,
    seed_lr: Annotated[float, option(help="Its peak learning rate.", min=0)] = 0.1,
    growth: Annotated[
        str | None,
        option(
            help="Channels planted at a time: 25% of the group's, or 4. [default: 25%; everywhere, "
            "what the budget has room for]",
            metavar="25%|N",
        ),
    ] = None,
    where: Annotated[
        Literal["group", "everywhere"],
        option(
            help="A round plants into the best group, as the method does, or into all groups at "
            "once, which ended higher wherever it was measured (docs/grow.md)."
        ),
    ] = "group",
    wiring: Annotated[
        Literal["onward", "full"],
        option(help="Who reads new channels where a layer has new ones itself: those, or all."),
    ] = "onward",
    candidates: Annotated[
        str,
        option(
            help="Groups trained in a round: all, or the best M by a first-order estimate.",
            metavar="all|M",
        ),
    ] = "all",
    init: Annotated[
        Literal["teacher", "random"] | None,
        option(
            help="Weights that planted channels and the seed start with: the teacher's, or random "
            "ones. [default: teacher; random with SEED]"
        ),
    ] = None,
    teacher_order: Annotated[
        Literal["largest", "given"],
        option(
            help="Which of its channels a narrowed teacher keeps first: those with the largest "
            "filters, or as they stand."
        ),
    ] = "largest",
    gain: Annotated[
        Literal["loss", "accuracy"],
        option(help="What candidates are judged by, on the validation images."),
    ] = "loss",
    per_cost: Annotated[
        Literal["params", "macs", "latency", "none"],
        option(help="What the gain is divided by; latency: measured microseconds."),
    ] = "params",
    epochs: Annotated[
        int | None,
        option(help="Epochs of training each candidate. [default: 2; everywhere 15]", min=1),
    ] = None,
    lr: Annotated[
        float | None,
        option(help="Peak learning rate of that. [default: 0.03 for adamw, 0.1 for sgd]", min=0),
    ] = None,
    optimizer: Annotated[
        Literal["adamw", "sgd"] | None,
        option(help="Optimizer of the planted weights. [default: adamw; everywhere sgd]"),
    ] = None,
    temperature: Annotated[float, option(help="Of the distillation.", min=0)] = 4.0,
    alpha: Annotated[
        float, option(help="Share of the teacher in the loss; labels get the rest.", min=0, max=1)
    ] = 0.5,
    polish_epochs: Annotated[
        int, option(help="Epochs of training everything in the end.", min=0)
    ] = 0,
    polish_lr: Annotated[float, option(help="Peak learning rate of that.", min=0)] = 0.02,
    batch_size: Annotated[int, option(help="Images per training step.", min=2)] = 128,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], option(help="Of the training's arithmetic.")
    ] = "fp32",
    recalibrate: Annotated[
        int, option(help="Training batches for new batch norm statistics.", min=1)
    ] = 20,
    subset: Annotated[
        int | None, option(help="Use only this many training images.", min=1, metavar="N")
    ] = None,
    validation: options.Validation = None,
    views: Annotated[
        int | None,
        option(
            help="Vary every image in so many ways, over and over, and ask the teacher once for "
            "each; without it, images are new in every epoch.",
            min=1,
            metavar="N",
        ),
    ] = None,
    workers: Annotated[int, option(help="Processes that decode image files.", min=0)] = 0,
    resume: Annotated[
        bool, option("--resume", help="Go on with an interrupted run in the output directory.")
    ] = False,
    overwrite: options.Overwrite = False,
    arch: options.Arch = None,
    arch_arg: options.ArchArg = None,
    seed_arch: Annotated[
        str | None,
        option(help="Architecture of a SEED that is a state dict, like --arch.", metavar="NAME"),
    ] = None,
    seed_arch_arg: Annotated[
        list[str] | None,
        option(help="Argument for --seed-arch, such as width=8; repeatable.", metavar="K=V"),
    ] = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    trust_pickle: options.TrustPickle = False,
    download: options.Download = False,
    device: options.Device = "auto",
    require_gpu: options.RequireGpu = False,
    seed: options.Seed = 0,
    json: options.Json = False,
    config: options.Config = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
    version: options.Version = False,
) -> None:
    """Plant channels where they help most, keep what was learned, and stop at the budget."""
    with command_output(context) as sink:
        import torch

        from nnslim.cli.grow_settings import grow_settings
        from nnslim.cli.inputs import (
            ModelFlags,
            PreprocessFlags,
            open_data,
            open_model,
            training_device,
        )
        from nnslim.errors import ConfigError
        from nnslim.grow.run import GrowSubject, run_grow
        from nnslim.report import SILENT
        from nnslim.report.grow import grow_tables
        from nnslim.train import flush_denormals
        from nnslim.train.output import Destination
        from nnslim.train.processes import connected, is_main, own_device
        from nnslim.train.trainer import Surroundings

        context.with_resource(flush_denormals(torch.device("cpu")))
        voice = sink if is_main() else SILENT
        if teacher is None:
            raise ConfigError("growing needs a teacher", hint="give --teacher MODEL")
        if data is None:
            raise ConfigError("growing needs images to train on", hint="give --data")
        settings = grow_settings(context.params)
        pixels = PreprocessFlags(input_size, mean, std)
        images = open_data(data, download=download, seed=seed, sink=voice, validation=validation)
        if subset is not None:
            images = images.with_subset(subset, seed=seed)
        if views is not None:
            images = replace(images, augment=replace(images.augment, views=views))
        teaching = ModelFlags(arch, tuple(arch_arg or ()), trust_pickle, pixels)
        planted = ModelFlags(seed_arch, tuple(seed_arch_arg or ()), trust_pickle, pixels)
        taught = open_model(teacher, teaching, images, voice)
        subject = GrowSubject(
            taught,
            None if seed_model is None else _open_seed(seed_model, planted, images, taught, voice),
            images,
        )
        paths = (seed_model, teacher, Path(data))
        read = tuple(path for path in paths if path and path.exists())
        place = Destination(out, overwrite, resume, ("nnslim", *sys.argv[1:]), read)
        chosen = training_device(device, require_gpu=require_gpu)
        with connected(chosen):
            around = Surroundings(own_device(chosen), voice, workers=workers)
            report = run_grow(subject, settings, place, around)
        if is_main():
            ended = f"growing ended: {report['stopped']}"
            sink.result(report, *grow_tables(report), ended, f"wrote {out}")


def _open_seed(
    path: Path, flags: ModelFlags, images: Data, teacher: LoadedModel, sink: Sink
) -> LoadedModel:
    """Open the seed; where its file does not say how it sees images, it sees the teacher's."""
    from nnslim.cli.inputs import open_model
    from nnslim.errors import ConfigError, InputError

    seen = replace(
        images, name="the teacher", preprocess=teacher.network.preprocess or images.preprocess
    )
    try:
        return open_model(path, flags, seen, sink)
    except (ConfigError, InputError) as error:
        said = [text and text.replace("--arch", "--seed-arch") for text in error.args]
        raise type(error)(*said) from error
