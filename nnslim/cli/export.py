"""``nnslim export``: one verified file, ONNX or a ``torch.export`` archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from nnslim.artifact.torch_archive import ArchiveReport
    from nnslim.cli.command import Call
    from nnslim.data import Data
    from nnslim.measure.precision import PrecisionCheck
    from nnslim.models import LoadedModel
    from nnslim.onnx import ExportReport
    from nnslim.settings.commands import ExportCommand

__all__ = ["ARGUMENTS", "EXAMPLES", "export_command"]

ARGUMENTS = {
    "model": Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="What to export.", show_default=False)
    ]
}
EXAMPLES = (
    "nnslim export slim/model.safetensors --onnx -o slim.onnx",
    "nnslim export slim/ --half --data photos/",
    "nnslim export slim/ --onnx --with-preprocess --batch 1",
)


def export_command(call: Call[ExportCommand]) -> None:
    """Write one self-contained file that computes what the network computes, or no file."""
    from nnslim.data.sources import open_data
    from nnslim.models.formats import model_file
    from nnslim.models.opening import open_model

    settings, sink = call.settings, call.sink
    _check(settings)
    model = call.arguments["model"]
    model = None if model is None else model_file(model)
    suffix = ".pt2" if settings.format.pt2 else ".onnx"
    place = _place(model, settings.output.out, suffix, overwrite=settings.output.overwrite)
    images = open_data(settings.data, settings.config.seed, sink)
    loaded = open_model(model, settings.model, settings.preprocess, images, sink)
    if loaded.network.preprocess is None:
        sink.warn("the file will not say how an image becomes an input: give its mean and std")
    with sink.progress("exporting and comparing", 1):
        document, text = _write(settings, loaded, place, images)
    if settings.config.half and settings.format.target == "cpu":
        sink.warn("onnxruntime has few float16 kernels for the CPU: measure, it may be slower")
    if settings.config.half and images is None:
        sink.warn("float16 was compared on random images only, not on data")
    sink.result({"schema": "nnslim.export/1", "source": loaded.source, **document}, text)


def _check(settings: ExportCommand) -> None:
    """Refuse settings that contradict each other."""
    config, wanted = settings.config, settings.format
    if wanted.onnx and wanted.pt2:
        raise ConfigError("[[onnx]] and [[pt2]] are two files", hint="export twice")
    if wanted.pt2 and (config.half or settings.precision.int8 or config.with_preprocess):
        raise ConfigError("[[half]], [[int8]] and [[with_preprocess]] are for ONNX files")
    if settings.precision.int8 and wanted.target == "cuda":
        raise ConfigError(
            "int8 has no kernels in onnxruntime's CUDA provider: it would be slower there",
            hint="take [[half]], or [[format.target=tensorrt]]",
        )


def _write(
    settings: ExportCommand, loaded: LoadedModel, place: Path, images: Data | None
) -> tuple[dict[str, object], str]:
    """Export; returns the report as JSON values and as text."""
    from nnslim.artifact.torch_archive import export_archive
    from nnslim.measure.precision import export_checked

    if settings.format.pt2:
        archive = export_archive(loaded.network, place, batch=settings.config.batch)
        values = {"format": "pt2", **archive.to_json(), "precision": None}
        return values, _archive_summary(archive)
    symmetric = settings.format.target == "tensorrt"
    precision = replace(settings.precision, seed=settings.config.seed, symmetric=symmetric)
    report, check = export_checked(loaded.network, place, settings.config, images, precision)
    judged = None if check is None else check.to_json()
    values = {"format": "onnx", **report.to_json(), "precision": judged}
    return values, _summary(report, check, int8=precision.int8)


def _place(model: Path | None, output: Path | None, suffix: str, *, overwrite: bool) -> Path:
    """Choose the file to write, and refuse to lose one."""
    if output is None and model is None:
        raise ConfigError("nothing says where to write", hint="give [[out=FILE]]")
    if model is not None and model.suffix.lower() == ".onnx":
        raise ConfigError(f"{model} is an ONNX file already", hint="give a network to export")
    target = output or Path(model or "").with_suffix(suffix)
    if target.is_file() and not overwrite:
        raise ConfigError(
            f"{target} exists", hint="use [[overwrite]], or another file with [[out]]"
        )
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
