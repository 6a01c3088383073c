"""What an evaluation is asked and what it answers: plain values, and their JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nnslim.report.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from nnslim.data.preprocess import Preprocess
    from nnslim.measure.accuracy import Accuracy
    from nnslim.measure.comparison import Comparison
    from nnslim.measure.latency import Latency
    from nnslim.report.table import Table
    from nnslim.settings.eval import EvalSettings

__all__ = ["SCHEMA", "EvalFile", "EvalReport", "FileResult", "evaluation_notes"]

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
        return {
            "path": str(self.path),
            "baseline": self.baseline,
            "sha256": self.sha256,
            "file_bytes": self.n_bytes,
            "onnx_bytes": self.onnx_bytes,
            "n_parameters": self.n_parameters,
            "parameters_counted": self.parameters_counted,
            "macs": self.macs,
            "macs_counted": "Conv, Gemm and MatMul, one multiply-add each, per image",
            "macs_not_counted": list(self.macs_not_counted),
            **_accuracy_json(self.accuracy),
            "preprocess": None if self.preprocess is None else self.preprocess.to_json(),
            "preprocess_from": self.preprocess_from,
            "images_per_s": self.images_per_s,
            "onnxruntime_busy": self.onnxruntime_busy,
            "latency": [
                {"batch_size": size, **latency.to_json(), "e2e": self._e2e(size)}
                for size, latency in self.latency.items()
            ],
            "provider_requested": self.provider_requested,
            "provider_used": self.provider_used,
            "provider_options": dict(self.provider_options),
            "cudnn": self.cudnn,
            "warnings": list(self.warnings),
            "against_baseline": None if self.against is None else self.against.to_json(),
        }

    def _e2e(self, size: int) -> dict[str, object] | None:
        latency = self.latency_e2e.get(size)
        return None if latency is None else latency.to_json()


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
            f"{own.path.name}: {own.n_parameters:,} parameters"
            + (f", top-1 {own.accuracy.top1_pct:.2f} %" if own.accuracy else "")
            for own in self.files
        )

    def tables(self) -> tuple[Table, ...]:
        """Return what the command shows."""
        from nnslim.report.eval_tables import evaluation_tables  # noqa: PLC0415 - it reads this

        return tuple(evaluation_tables({**self.to_json(), "gates": []}))

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values, without NaN or infinity."""
        return {
            "schema": SCHEMA,
            "versions": dict(self.versions),
            "device_requested": self.settings.session.device,
            "cpu_threads": self.cpu_threads,
            "data": self.data,
            "n_images": self.n_images,
            "n_classes": self.n_classes,
            "tf32_for_accuracy": False,
            "tf32_for_latency": True,
            "latency_clock": "input on the device, result awaited, transfers not timed",
            "files": [result.to_json() for result in self.files],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


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


def _accuracy_json(accuracy: Accuracy | None) -> dict[str, object]:
    return {
        "top1_pct": accuracy and accuracy.top1_pct,
        "top5_pct": accuracy and accuracy.top5_pct,
        "loss_nats": accuracy and accuracy.loss,
        "n_not_finite": accuracy and accuracy.n_not_finite,
    }
