"""``nnslim export``: one verified file, ONNX or a ``torch.export`` archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nnslim.cli import options
from nnslim.cli.options import command_output, option

if TYPE_CHECKING:
    from nnslim.artifact.torch_archive import ArchiveReport
    from nnslim.measure.precision import PrecisionCheck
    from nnslim.onnx import ExportReport

__all__ = ["export_command"]


def export_command(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="What to export.", show_default=False)
    ] = None,
    onnx: Annotated[bool, option("--onnx", help="Write ONNX; so it is without a format.")] = False,
    pt2: Annotated[
        bool, option("--pt2", help="Write an archive of torch.export, which plain torch reads.")
    ] = False,
    out: Annotated[
        Path | None,
        option("--out", "-o", help="Where to; without it, beside MODEL.", metavar="FILE"),
    ] = None,
    opset: Annotated[int, option(help="Version of the ONNX operators.")] = 20,
    batch: Annotated[
        str,
        option(help="Images per run: dynamic for any number, or a number.", metavar="dynamic|N"),
    ] = "dynamic",
    half: Annotated[
        bool,
        option("--half", help="Compute in float16; input and logits stay float32."),
    ] = False,
    int8: Annotated[
        bool,
        option("--int8", help="Compute in 8-bit integers, for the CPU; needs --data."),
    ] = False,
    with_preprocess: Annotated[
        bool,
        option(
            "--with-preprocess",
            help="Take pixels, uint8 (N, H, W, C), and normalise inside; resize before it.",
        ),
    ] = False,
    data: options.Data = None,
    calibration_samples: Annotated[
        int, option(help="Training images that give int8 its scales.", min=1, metavar="N")
    ] = 128,
    max_drop: Annotated[
        float,
        option(
            help="With --data: top-1 points that --half or --int8 may lose against float32; "
            "otherwise nothing is written.",
            metavar="POINTS",
        ),
    ] = 2.0,
    target: Annotated[
        Literal["cpu", "cuda", "tensorrt"],
        option(
            help="Where the file will run: CUDA has no kernels for int8, TensorRT wants zero "
            "points of 0."
        ),
    ] = "cpu",
    arch: options.Arch = None,
    arch_arg: options.ArchArg = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    trust_pickle: options.TrustPickle = False,
    download: options.Download = False,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    json: options.Json = False,
    config: options.Config = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
    version: options.Version = False,
) -> None:
    """Write one self-contained file that computes what the network computes, or no file."""
    with command_output(context) as sink:
        from nnslim.artifact.torch_archive import export_archive
        from nnslim.cli.inputs import ModelFlags, PreprocessFlags, open_data, open_model
        from nnslim.errors import ConfigError
        from nnslim.measure.precision import PrecisionSettings, export_checked
        from nnslim.models.formats import model_file
        from nnslim.onnx import ExportSettings
        from nnslim.settings.parse import parse_count

        if onnx and pt2:
            raise ConfigError("--onnx and --pt2 are two files", hint="export twice")
        if pt2 and (half or int8 or with_preprocess):
            raise ConfigError("--half, --int8 and --with-preprocess are for ONNX files")
        if int8 and target == "cuda":
            raise ConfigError(
                "int8 has no kernels in onnxruntime's CUDA provider: it would be slower there",
                hint="take --half, or --target tensorrt",
            )
        images_per_run = None if batch == "dynamic" else parse_count(batch, "--batch")
        settings = ExportSettings(
            opset=opset,
            batch=images_per_run,
            half=half,
            with_preprocess=with_preprocess,
            seed=seed,
        )
        symmetric = target == "tensorrt"
        precision = PrecisionSettings(int8, calibration_samples, max_drop, seed, symmetric)
        model = None if model is None else model_file(model)
        place = _place(model, out, ".pt2" if pt2 else ".onnx", overwrite=overwrite)
        said = PreprocessFlags(input_size, mean, std)
        images = open_data(data, download=download, seed=seed, sink=sink) if data else None
        flags = ModelFlags(arch, tuple(arch_arg or ()), trust_pickle, said)
        loaded = open_model(model, flags, images, sink)
        if loaded.network.preprocess is None:
            sink.warn("the file will not say how an image becomes an input: give --mean and --std")
        head = {"source": loaded.source}
        with sink.progress("exporting and comparing", 1):
            if pt2:
                archive = export_archive(loaded.network, place, batch=images_per_run)
                document = {"schema": "nnslim.export/1", "format": "pt2", **head}
                document |= {**archive.to_json(), "precision": None}
                text = _archive_summary(archive)
            else:
                report, check = export_checked(loaded.network, place, settings, images, precision)
                document = {"schema": "nnslim.export/1", "format": "onnx", **head}
                document |= report.to_json()
                document |= {"precision": None if check is None else check.to_json()}
                text = _summary(report, check, int8=int8)
        if half and target == "cpu":
            sink.warn("onnxruntime has few float16 kernels for the CPU: measure, it may be slower")
        if half and images is None:
            sink.warn("float16 was compared on random images only: give --data for its accuracy")
        sink.result(document, text)


def _place(model: Path | None, output: Path | None, suffix: str, *, overwrite: bool) -> Path:
    """Choose the file to write, and refuse to lose one."""
    from nnslim.errors import ConfigError

    if output is None and model is None:
        raise ConfigError("nothing says where to write", hint="give -o FILE")
    if model is not None and model.suffix.lower() == ".onnx":
        raise ConfigError(f"{model} is an ONNX file already", hint="give a network to export")
    target = output or Path(model or "").with_suffix(suffix)
    if target.is_file() and not overwrite:
        raise ConfigError(f"{target} exists", hint="use --overwrite, or another file with -o")
    return target


def _summary(report: ExportReport, check: PrecisionCheck | None, *, int8: bool) -> str:
    from nnslim.report.units import size

    parity = report.parity
    batches = ", ".join(str(entry.batch) for entry in parity.per_batch)
    what = "the float32 file before it" if int8 else "onnxruntime"
    lines = [
        f"{report.path}: {size(report.n_bytes)}, {report.n_nodes} nodes, opset {report.opset}",
        f"{what} = network for {batches} images: largest difference {parity.max_rel:.1e} of the"
        f" largest logit (allowed {parity.rtol:.0e})",
    ]
    if parity.noise is not None:
        lines.append(f"rounding alone moves the network's logits by {parity.noise:.1e}")
    if check is not None:
        lines.append(
            f"top-1 on {check.n_images:,} {check.split} images: {check.top1_pct:.2f} %, float32"
            f" {check.float32_top1_pct:.2f} %; lost {check.drop_pp:+.2f} points"
            f" ({check.low:+.2f} to {check.high:+.2f}), the same answer for"
            f" {check.agreement_pct:.2f} %"
        )
        if check.logits_max_rel is not None:
            lines.append(
                f"its logits differ from float32's by up to {100 * check.logits_max_rel:.1f} % of"
                " the largest"
            )
    return "\n".join(lines)


def _archive_summary(report: ArchiveReport) -> str:
    from nnslim.report.units import size

    batches = ", ".join(map(str, report.batches))
    return (
        f"{report.path}: {size(report.n_bytes)}, torch.export.load(...).module()\n"
        f"reloaded = network for {batches} images: largest difference {report.max_rel:.1e} of the"
        " largest logit"
    )
