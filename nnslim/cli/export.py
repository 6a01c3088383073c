"""``nnslim export``: one verified ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnslim.cli import options
from nnslim.cli.options import command_output, option

if TYPE_CHECKING:
    from nnslim.onnx import ExportReport

__all__ = ["export_command"]


def export_command(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="What to export.", show_default=False)
    ] = None,
    onnx: Annotated[bool, option("--onnx", help="Write ONNX; the only format so far.")] = False,
    out: Annotated[
        Path | None,
        option("--out", "-o", help="Where to; without it, beside MODEL.", metavar="FILE"),
    ] = None,
    opset: Annotated[int, option(help="Version of the ONNX operators.")] = 20,
    batch: Annotated[
        str,
        option(help="Images per run: dynamic for any number, or a number.", metavar="dynamic|N"),
    ] = "dynamic",
    arch: options.Arch = None,
    arch_arg: options.ArchArg = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    trust_pickle: options.TrustPickle = False,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    json: options.Json = False,
    config: options.Config = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
    version: options.Version = False,
) -> None:
    """Write one self-contained file that onnxruntime runs like the network, or no file."""
    with command_output(context) as sink:
        from nnslim.cli.inputs import ModelFlags, PreprocessFlags, open_model
        from nnslim.cli.parse import parse_count
        from nnslim.errors import ConfigError
        from nnslim.onnx import ExportSettings, export_onnx

        if not onnx:
            raise ConfigError("nothing says what to write", hint="give --onnx")
        settings = ExportSettings(
            opset=opset,
            batch=None if batch == "dynamic" else parse_count(batch, "--batch"),
            seed=seed,
        )
        target = _target(model, out, overwrite=overwrite)
        said = PreprocessFlags(input_size, mean, std)
        flags = ModelFlags(arch, tuple(arch_arg or ()), trust_pickle, said)
        loaded = open_model(model, flags, None, sink)
        if loaded.network.preprocess is None:
            sink.warn("the file will not say how an image becomes an input: give --mean and --std")
        with sink.progress("exporting and comparing", 1):
            report = export_onnx(loaded.network, target, settings=settings)
        document = {"schema": "nnslim.export/1", "source": loaded.source, **report.to_json()}
        sink.result(document, _summary(report))


def _target(model: Path | None, output: Path | None, *, overwrite: bool) -> Path:
    """Choose the file to write, and refuse to lose one."""
    from nnslim.errors import ConfigError

    if output is None and model is None:
        raise ConfigError("nothing says where to write", hint="give -o FILE")
    if model is not None and model.suffix.lower() == ".onnx":
        raise ConfigError(f"{model} is an ONNX file already", hint="give a network to export")
    target = output or Path(model or "").with_suffix(".onnx")
    if target.is_file() and not overwrite:
        raise ConfigError(f"{target} exists", hint="use --overwrite, or another file with -o")
    return target


def _summary(report: ExportReport) -> str:
    from nnslim.report.units import size

    batches = ", ".join(str(entry.batch) for entry in report.parity.per_batch)
    return (
        f"{report.path}: {size(report.n_bytes)}, {report.n_nodes} nodes, opset {report.opset}\n"
        f"onnxruntime = network for {batches} images: largest difference "
        f"{report.parity.max_rel:.1e} of the largest logit"
    )
