"""``nnslim prune``: remove channels to a budget, prove it, recover, and write the result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from nnslim.cli import options
from nnslim.cli.options import command_output, option

__all__ = ["prune_command"]


def prune_command(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A .safetensors of nnslim, a state dict (.pt, .pth, .th, .safetensors) or a .pt2. "
            "Without it, --arch gives a network with random weights.",
        ),
    ] = None,
    data: options.Data = None,
    out: Annotated[
        Path, option("--out", "-o", help="Directory to write the result to.", metavar="DIR")
    ] = Path("nnslim-out"),
    params: Annotated[
        str | None,
        option(
            help="Parameters that may remain: 50% or 130k. [default: 50%, without another budget]",
            metavar="LIMIT",
        ),
    ] = None,
    macs: Annotated[
        str | None, option(help="Multiply-adds that may remain: 45% or 20M.", metavar="LIMIT")
    ] = None,
    size: Annotated[
        str | None, option(help="Bytes of the tensors that may remain: 50% or 2M.", metavar="LIMIT")
    ] = None,
    latency: Annotated[
        str | None,
        option(
            help="Latency that may remain, measured in onnxruntime on this device: 60% or 1.5ms.",
            metavar="LIMIT",
        ),
    ] = None,
    latency_batch: Annotated[
        str, option(help="Batch sizes it holds at, and that are measured: 1,32.", metavar="N,...")
    ] = "1",
    max_drop: Annotated[
        float | None,
        option(
            help="Instead of a budget: prune as far as this many points of validation accuracy "
            "allow.",
            min=0,
            max=100,
            metavar="POINTS",
        ),
    ] = None,
    profile: Annotated[
        Literal["fast", "balanced", "best"],
        option(help="How to cut and how long to train, where no other flag says."),
    ] = "balanced",
    min_width: Annotated[
        str, option(help="Channels every group keeps at least: 10% or 4.", metavar="LIMIT")
    ] = "10%",
    keep: Annotated[
        list[str] | None,
        option(
            help="Layer that stays as it is: all channels it makes and reads; repeatable.",
            metavar="LAYER",
        ),
    ] = None,
    keep_streams: Annotated[
        bool | None,
        option(
            help="Leave residual streams whole, the sums of several layers' results. "
            "[default: by profile, without --data no]"
        ),
    ] = None,
    saliency: Annotated[
        Literal["loss", "logits", "jacobian", "taylor", "magnitude"] | None,
        option(help="How channels are scored. [default: by profile, without --data magnitude]"),
    ] = None,
    samples: Annotated[
        int | None,
        option(help="Training images the score is measured on. [default: by profile]", min=1),
    ] = None,
    augment_samples: Annotated[
        bool, option(help="Score on augmented images, as in training.")
    ] = True,
    allocation: Annotated[
        Literal["global", "even"] | None,
        option(
            help="Where channels go: by score among all groups, or the same share of every group. "
            "[default: by profile, without --data global]"
        ),
    ] = None,
    per_cost: Annotated[
        bool | None,
        option(
            help="Rank channels by score per cost in the budget, not by score alone. "
            "[default: for all but magnitude]"
        ),
    ] = None,
    align: Annotated[
        str,
        option(
            help="Every group that is cut ends at a multiple of N channels; auto measures which "
            "pays.",
            metavar="N|auto",
        ),
    ] = "1",
    approximate: Annotated[
        bool,
        option(
            help="Cut channels over which a norm runs too, such as a transformer's residual stream."
        ),
    ] = False,
    shrink: Annotated[
        Literal["auto", "whole", "within"],
        option(
            help="Drop whole attention heads and groups, the same number within each, or whichever "
            "of the two there are more of."
        ),
    ] = "auto",
    sparse_epochs: Annotated[
        int | None,
        option(
            help="Epochs of sparse training before the removal. [default: by profile, at least 2 "
            "with --regularizer, without --data 0]",
            min=0,
        ),
    ] = None,
    sparse_lr: Annotated[float, option(help="Its peak learning rate.", min=0)] = 0.01,
    regularizer: Annotated[
        str,
        option(
            help="What pulls channels towards zero in it: fading, which ends at zero, or one of "
            "nine penalties (docs/regularizers.md).",
            metavar="NAME",
        ),
    ] = "fading",
    regularizer_axis: Annotated[
        Literal["feature", "neuron", "both"],
        option(help="A penalty's weights: those that read a channel, that produce it, or both."),
    ] = "feature",
    strength: Annotated[
        str, option(help="A penalty's factor; auto follows the loss's gradient.", metavar="auto|X")
    ] = "auto",
    strength_ratio: Annotated[
        float,
        option(help="With auto: the pull's size in the end over that of the loss's.", min=0),
    ] = 100.0,
    focus: Annotated[
        bool, option(help="Pull only at the channels that the budget would remove.")
    ] = True,
    rounds: Annotated[
        int | None,
        option(help="Remove in this many rounds. [default: by profile, without --data 1]", min=1),
    ] = None,
    recovery_epochs: Annotated[
        int | None, option(help="Epochs between two rounds. [default: by profile]", min=0)
    ] = None,
    refit: Annotated[
        int | None,
        option(
            help="Training images on which the weights that are left are fitted to the layers' "
            "earlier outputs, after each removal. [default: 512 where no training follows, else 0]",
            min=0,
        ),
    ] = None,
    recalibrate: Annotated[
        int,
        option(
            help="Without a fit: training batches for new batch norm statistics; 0 keeps the old.",
            min=0,
        ),
    ] = 50,
    epochs: Annotated[
        int | None,
        option(help="Epochs of fine-tuning. [default: by profile, without --data 0]", min=0),
    ] = None,
    lr: Annotated[float, option(help="Peak learning rate.", min=0)] = 0.05,
    batch_size: Annotated[int, option(help="Images per training step.", min=2)] = 128,
    schedule: Annotated[
        Literal["cosine", "one-cycle"], option(help="Course of the learning rate.")
    ] = "cosine",
    label_smoothing: Annotated[float, option(help="Label smoothing.", min=0, max=0.999)] = 0.0,
    distill: Annotated[bool, option(help="Teach the pruned network with the dense one.")] = True,
    alpha: Annotated[
        float | None,
        option(
            help="Share of the teacher in the loss; labels get the rest. [default: by profile]",
            min=0,
            max=1,
        ),
    ] = None,
    temperature: Annotated[float, option(help="Of the distillation.", min=0)] = 4.0,
    grad_clip: Annotated[
        float | None, option(help="Largest norm of the whole gradient.", min=0)
    ] = None,
    ema: Annotated[
        float | None,
        option(help="Decay of an average of the weights, such as 0.999.", min=0, max=0.999999),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], option(help="Of the training's arithmetic.")
    ] = "fp32",
    compile: Annotated[
        bool | None,
        option(help="Compile the training step. [default: on the CPU, where it pays]"),
    ] = None,
    subset: Annotated[
        int | None, option(help="Use only this many training images.", min=1, metavar="N")
    ] = None,
    validation: options.Validation = None,
    workers: Annotated[int, option(help="Processes that decode image files.", min=0)] = 0,
    dry_run: Annotated[bool, option("--dry-run", help="Show the plan and write nothing.")] = False,
    html: Annotated[
        Path | None,
        option(
            "--html",
            help="With --dry-run: write a page with a picture of the network, before and after.",
            metavar="FILE",
        ),
    ] = None,
    resume: Annotated[
        bool, option("--resume", help="Go on with an interrupted run in the output directory.")
    ] = False,
    overwrite: options.Overwrite = False,
    arch: options.Arch = None,
    arch_arg: options.ArchArg = None,
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
    """Remove the channels that matter least, until a budget holds, and fine-tune what is left."""
    with command_output(context) as sink:
        import torch

        from nnslim.artifact import write_page
        from nnslim.cli.inputs import (
            ModelFlags,
            PreprocessFlags,
            open_data,
            open_model,
            training_device,
        )
        from nnslim.cli.prune_settings import prune_settings
        from nnslim.errors import ConfigError
        from nnslim.processes import connected, is_main, own_device
        from nnslim.pruning import RunContext
        from nnslim.pruning.run import Subject, run_prune
        from nnslim.pruning.run import dry_run as plan_only
        from nnslim.report.prune_page import render_html
        from nnslim.report.prune_tables import prune_tables
        from nnslim.run.output import Destination
        from nnslim.sink import SILENT
        from nnslim.train import flush_denormals

        # Before any tensor is touched: torch's worker threads copy the setting when they start.
        context.with_resource(flush_denormals(torch.device("cpu")))
        voice = sink if is_main() else SILENT
        if model is None and arch is None:
            raise ConfigError(
                "nothing to prune", hint="give a MODEL file, or --arch NAME for random weights"
            )
        if html is not None and not dry_run:
            raise ConfigError(
                "--html belongs to --dry-run", hint="a run writes report.html into its directory"
            )
        settings = prune_settings(context.params)
        flags = ModelFlags(
            arch, tuple(arch_arg or ()), trust_pickle, PreprocessFlags(input_size, mean, std)
        )
        images = None
        if validation is not None and not data:
            raise ConfigError(f"--validation {validation}: there are no images", hint="give --data")
        if data:
            images = open_data(
                data, download=download, seed=seed, validation=validation, sink=voice
            )
            if subset is not None:
                images = images.with_subset(subset, seed=seed)
        subject = Subject(open_model(model, flags, images, voice), images)
        chosen = training_device(device, require_gpu=require_gpu)
        with connected(chosen):
            around = RunContext(own_device(chosen), voice, workers=workers)
            if dry_run:
                report = plan_only(subject, settings, around)
                if html is not None:
                    write_page(html, render_html(report), overwrite=overwrite)
            else:
                paths = (model, Path(data) if data else None)
                read = tuple(path for path in paths if path and path.exists())
                place = Destination(out, overwrite, resume, ("nnslim", *sys.argv[1:]), read)
                report = run_prune(subject, settings, place, around)
        written = html if dry_run else out
        closing = () if written is None else (f"wrote {written}",)
        if is_main():
            sink.result(report, *prune_tables(report), *closing)
