"""What an evaluation is asked and what it answers: plain values, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import nn

from nnslim.data.preprocess import Preprocess
from nnslim.measure.accuracy import Accuracy
from nnslim.measure.drop import AccuracyDrop
from nnslim.measure.latency import Latency
from nnslim.measure.ratio import LatencyRatio
from nnslim.report.eval_tables import evaluation_tables
from nnslim.report.shown import Shown
from nnslim.report.table import Table
from nnslim.settings.eval import EvalSettings

__all__ = ["SCHEMA", "Comparison", "EvalFile", "EvalReport", "FileResult", "evaluation_notes"]

SCHEMA = "nnslim.eval/1"
_ORIGINS: Mapping[str, str] = {
    "file": "the file's own",
    "caller": "as asked for",
    "data": "no preprocessing of its own, the data's default was used",
}
# Notes on data that only training uses; the preprocessing is noted for each file.
_FOR_TRAINING = ("preprocessing:", "augmentation:", "train:", "val:")


@dataclass(frozen=True)
class EvalFile:
    """One network to measure.

    Attributes:
        path: An ``.onnx`` file, or a file of nnslim that is exported to ONNX first.
        baseline: It is there to be compared with: no gate applies to it.
        network: What ``path`` holds, where the caller has read it: any format will do then.
    """

    path: Path
    baseline: bool = False
    network: nn.Module | None = None


@dataclass(frozen=True)
class Comparison:
    """A file against its baseline.

    Attributes:
        accuracy: None without data.
        latency: By images per run.
        params_ratio: Parameters as a share of the baseline's.
        macs_ratio: Multiply-adds; None where one of both is not known.
        bytes_ratio: Size of the ONNX files.
    """

    accuracy: AccuracyDrop | None
    latency: Mapping[int, LatencyRatio]
    params_ratio: float
    macs_ratio: float | None
    bytes_ratio: float

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        latency = [{"batch_size": n, **ratio.to_json()} for n, ratio in self.latency.items()]
        accuracy = self.accuracy and self.accuracy.to_json()
        return {**vars(self), "accuracy": accuracy, "latency": latency}


@dataclass(frozen=True)
class FileResult:
    """What was measured on one file.

    Attributes:
        path: The file as it was given.
        baseline: No gate applies to it.
        sha256: Its hash.
        n_bytes: Its size.
        onnx_bytes: Size of the ONNX file that was run: the same, or exported from it.
        n_parameters: Of the network, or what an ONNX file stores; see ``parameters_counted``.
        parameters_counted: Which of the two.
        macs: Multiply-adds per image of Conv, Gemm and MatMul; None where a shape is unknown.
        macs_not_counted: Operator types that multiply too, but are not in ``macs``.
        accuracy: None without data.
        preprocess: What the images went through; None without data.
        preprocess_from: Where that came from.
        images_per_s: Images decoded and run per second while accuracy was measured.
        onnxruntime_busy: Part of that time in which onnxruntime was running.
        latency: By images per run: input on the device, result awaited, transfers not timed.
        latency_e2e: The same from an array in memory to an array in memory.
        provider_requested: The onnxruntime provider that the device asks for.
        provider_used: The one that ran.
        provider_options: Those of its options that change speed or rounding, while it was timed.
        cudnn: Path of the cuDNN library, on a GPU.
        warnings: What the user should know, one sentence each.
        against: The file against the baseline; None without one.
    """

    path: Path
    baseline: bool
    sha256: str
    n_bytes: int
    onnx_bytes: int
    n_parameters: int
    parameters_counted: Literal["network", "onnx initializers"]
    macs: int | None
    macs_not_counted: tuple[str, ...]
    accuracy: Accuracy | None
    preprocess: Preprocess | None
    preprocess_from: Literal["file", "caller", "data"] | None
    images_per_s: float | None
    onnxruntime_busy: float | None
    latency: Mapping[int, Latency]
    provider_requested: str
    provider_used: str
    provider_options: Mapping[str, str]
    cudnn: str | None
    warnings: tuple[str, ...]
    against: Comparison | None = None
    latency_e2e: Mapping[int, Latency] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values with units in the names."""
        e2e = {n: latency.to_json() for n, latency in self.latency_e2e.items()}
        values: dict[str, object] = {
            **vars(self),
            "path": str(self.path),
            "file_bytes": self.n_bytes,
            "macs_counted": "Conv, Gemm and MatMul, one multiply-add each, per image",
            "top1_pct": self.accuracy and self.accuracy.top1_pct,
            "top5_pct": self.accuracy and self.accuracy.top5_pct,
            "loss_nats": self.accuracy and self.accuracy.loss,
            "n_not_finite": self.accuracy and self.accuracy.n_not_finite,
            "preprocess": self.preprocess and self.preprocess.to_json(),
            "latency": [
                {"batch_size": n, **latency.to_json(), "e2e": e2e.get(n)}
                for n, latency in self.latency.items()
            ],
            "against_baseline": self.against and self.against.to_json(),
        }
        for name in ("n_bytes", "accuracy", "against", "latency_e2e"):
            del values[name]
        return values


@dataclass(frozen=True, repr=False)
class EvalReport(Shown):
    """All files side by side.

    Attributes:
        files: In the order they were given.
        settings: How it was measured.
        data: Name of the data set, or None.
        n_images: Test images, 0 without data.
        n_classes: Classes of the data, 0 without.
        cpu_threads: Threads per session on the CPU.
        versions: nnslim, onnxruntime and torch.
        notes: What was decided for the user, one sentence each.
        warnings: What the user should know about the machine.
    """

    files: tuple[FileResult, ...]
    settings: EvalSettings
    data: str | None
    n_images: int
    n_classes: int
    cpu_threads: int
    versions: Mapping[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """Name every file with its size and, where it was measured, its accuracy."""
        return "; ".join(
            f"{file.path.name}: {file.n_parameters:,} parameters"
            + (f", top-1 {file.accuracy.top1_pct:.2f} %" if file.accuracy else "")
            for file in self.files
        )

    def tables(self) -> tuple[Table, ...]:
        """Return what the command shows."""
        return tuple(evaluation_tables({**self.to_json(), "gates": []}))

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values, without NaN or infinity."""
        values: dict[str, object] = {
            **vars(self),
            "schema": SCHEMA,
            "device_requested": self.settings.session.device,
            "tf32_for_accuracy": False,
            "tf32_for_latency": True,
            "latency_clock": "input on the device, result awaited, transfers not timed",
            "files": [result.to_json() for result in self.files],
        }
        del values["settings"]
        return values


def evaluation_notes(data_notes: Sequence[str], results: Sequence[FileResult]) -> tuple[str, ...]:
    """Return what concerns the test images, the preprocessing of each file, and how to compare."""
    given: dict[str, list[str]] = {}
    for result in results:
        if result.preprocess is not None and result.preprocess_from is not None:
            note = f"{result.preprocess.describe()}; {_ORIGINS[result.preprocess_from]}"
            given.setdefault(note, []).append(str(result.path))
    notes = [note for note in data_notes if not note.startswith(_FOR_TRAINING)]
    notes += [f"{', '.join(paths)}: {note}" for note, paths in given.items()]
    if any(result.parameters_counted == "onnx initializers" for result in results):
        notes.append(
            "parameters of .onnx files are the values they store; BatchNorm is folded into the "
            "convolutions there, so they are fewer than the network's"
        )
    if len({result.provider_used for result in results}) > 1:
        notes.append("the files ran on different providers: their latencies do not compare")
    return tuple(notes)
