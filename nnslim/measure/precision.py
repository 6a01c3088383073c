"""Exports of less precision than float32, judged by what the images say and not by logits alone."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from nnslim.artifact.replacing import check_place, new_file
from nnslim.data import Data, Loader, Preprocess
from nnslim.errors import ConfigError, ExportMismatchError, InputError
from nnslim.measure.accuracy import onnx_accuracy, run_padded
from nnslim.measure.drop import accuracy_drop
from nnslim.measure.scoring import as_pixels, images_per_run
from nnslim.network.network import Network
from nnslim.onnx import ExportReport, Session, export_onnx, open_session
from nnslim.onnx.quantize import Calibration, quantize_file
from nnslim.settings.eval import EvalSettings
from nnslim.settings.export import ExportSettings, PrecisionSettings
from nnslim.settings.session import SessionSettings

__all__ = ["PrecisionCheck", "export_checked"]

_BATCH = 64
_COMPARED = 256  # images whose logits are compared


@dataclass(frozen=True)
class PrecisionCheck:
    """A file against the float32 file of the same network, in onnxruntime on the CPU.

    Attributes:
        split: The images: ``test``, or ``val`` where there are none.
        n_images: How many.
        top1_pct: Of the file.
        float32_top1_pct: Of the float32 file.
        drop_pp: What it loses, in percentage points.
        low: Lower end of the interval that holds the true drop 19 times out of 20.
        high: Its upper end.
        agreement_pct: Images that both call the same.
        logits_max_rel: Largest difference of a logit to the float32 file's on about the first 256
            of those images, over the largest logit; None where one is not finite.
        calibration: What int8 was calibrated on, or None.
    """

    split: str
    n_images: int
    top1_pct: float
    float32_top1_pct: float
    drop_pp: float
    low: float
    high: float
    agreement_pct: float
    logits_max_rel: float | None
    calibration: Calibration | None

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return asdict(self)


def export_checked(
    network: Network,
    path: Path,
    settings: ExportSettings,
    data: Data | None,
    precision: PrecisionSettings,
) -> tuple[ExportReport, PrecisionCheck | None]:
    """Write one ONNX file; with data, only if its accuracy is close enough to float32's.

    Args:
        network: It is not changed.
        path: Where to write.
        settings: Of the export; with int8, of the float32 file that is quantised.
        data: Calibrates int8 on its training images, and judges on its test images.
        precision: int8, and how much may be lost.

    Returns:
        What was written, and how it compares; None for float32, or without data. The parity of an
        int8 file is that of the float32 file that it was made from.

    Raises:
        ConfigError: int8 without data, or with ``half``.
        InputError: The file cannot be quantised or written, or the data lack a split.
        ExportMismatchError: The file computes something else, or loses too much.
    """
    check_place(path)
    if precision.int8 and data is None:
        message = "int8 and nothing to measure its scales on do not go together"
        raise ConfigError(message, hint="give [[data]]")
    if precision.int8 and settings.half:
        message = "int8 and half precision do not go together"
        raise ConfigError(message, hint="give one of [[int8]] and [[half]]")
    if data is None or not (settings.half or precision.int8):
        return export_onnx(network, path, settings=settings), None
    return _export_smaller(network, path, settings, data, precision)


def _export_smaller(
    network: Network,
    path: Path,
    settings: ExportSettings,
    data: Data,
    precision: PrecisionSettings,
) -> tuple[ExportReport, PrecisionCheck]:
    if network.preprocess is None:
        hint = "give [[mean]] and [[std]]"
        raise ConfigError("how images become inputs is not known", hint=hint)
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        plain, small = Path(folder) / "float32.onnx", Path(folder) / "small.onnx"
        calibration: Calibration | None = None
        report = export_onnx(network, plain, settings=replace(settings, half=False))
        if precision.int8:
            calibration = _quantise(plain, small, network.preprocess, data, settings, precision)
            report = ExportReport.of(small, report.parity, settings.batch)
        else:
            report = export_onnx(network, small, settings=settings)
        check = _judge(plain, small, network.preprocess, data, calibration)
        _require(check, precision.max_drop)
        with new_file(path) as temporary:
            shutil.copyfile(small, temporary)
    return replace(report, path=path), check


def _require(check: PrecisionCheck, max_drop: float) -> None:
    if not check.drop_pp <= max_drop:
        raise ExportMismatchError(
            f"the file would have {check.top1_pct:.2f} % top-1 on {check.n_images:,} images"
            f" instead of {check.float32_top1_pct:.2f}, and may lose {max_drop:g} points",
            hint="nothing was written; allow more with [[precision.max_drop]], or export float32",
        )


def _quantise(  # noqa: PLR0913, PLR0917 - two files and what is known about them
    plain: Path,
    small: Path,
    preprocess: Preprocess,
    data: Data,
    settings: ExportSettings,
    precision: PrecisionSettings,
) -> Calibration:
    """Calibrate on training images as they are at test time: nothing is augmented."""
    size = settings.batch or _BATCH
    numbers = _calibration_images(len(data.train), settings.batch, precision)
    calibration = Calibration.of(numbers)
    session = open_session(plain, SessionSettings(device="cpu"))
    fed = as_pixels(preprocess) if settings.with_preprocess else preprocess
    batches = (
        session.input.feed(images.numpy())
        for images, _ in Loader(data.train.subset(numbers), fed, size)
    )
    quantize_file(plain, small, batches, calibration, symmetric=precision.symmetric)
    return calibration


def _calibration_images(n: int, batch: int | None, precision: PrecisionSettings) -> np.ndarray:
    """Choose of ``n`` training images; a file of a fixed batch takes whole batches only."""
    batch = batch or 1
    wanted = min(math.ceil(precision.calibration_samples / batch), n // batch) * batch
    if wanted == 0:
        raise InputError(f"{n} training images do not fill one batch of {batch}")
    generator = np.random.default_rng([precision.seed, 8])
    return np.sort(generator.permutation(n)[:wanted])


def _judge(
    plain: Path, small: Path, preprocess: Preprocess, data: Data, calibration: Calibration | None
) -> PrecisionCheck:
    name = data.measured
    split = data.splits[name]
    sessions = [open_session(path, SessionSettings(device="cpu")) for path in (plain, small)]
    pixels = sessions[0].input.takes_pixels
    fed = as_pixels(preprocess) if pixels else preprocess
    loader = Loader(split, fed, images_per_run(EvalSettings(), fed), keep=True)
    baseline, measured = (onnx_accuracy(session, loader, len(data.classes)) for session in sessions)
    drop = accuracy_drop(baseline, measured, split.labels, data.classes)
    return PrecisionCheck(
        name,
        measured.n,
        measured.top1_pct,
        baseline.top1_pct,
        drop.drop_pp,
        drop.low,
        drop.high,
        drop.changes.agreement_pct,
        _logits_apart(sessions, loader),
        calibration,
    )


def _logits_apart(
    sessions: Sequence[Session], batches: Iterable[tuple[Tensor, Tensor]]
) -> float | None:
    """Largest difference of a logit over the largest of the first session's."""
    pairs: list[np.ndarray] = []  # (2, N, K)
    for images, _ in batches:
        pairs.append(np.stack([run_padded(session, images.numpy()) for session in sessions]))
        if sum(pair.shape[1] for pair in pairs) >= _COMPARED:
            break
    wanted, got = np.concatenate(pairs, axis=1)
    apart = float(np.abs(got - wanted).max()) / max(float(np.abs(wanted).max()), 1e-30)
    return apart if math.isfinite(apart) else None
