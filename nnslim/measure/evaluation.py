"""Measure files as they ship: each one as ONNX in onnxruntime, all of them side by side."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnxruntime as ort
import torch

from nnslim.errors import InputError
from nnslim.measure.comparison import AccuracyDrop, Comparison, accuracy_drop, latency_ratio
from nnslim.measure.latency import Latency, measure_latency
from nnslim.measure.onnx_cost import OnnxCost, onnx_file_cost
from nnslim.measure.results import EvalFile, EvalReport, FileResult
from nnslim.measure.scoring import Score, images_per_run, score
from nnslim.measure.steadiness import (
    busy_cores,
    machine_warnings,
    ratio_warnings,
    unsteadiness,
)
from nnslim.onnx import Session, export_onnx, open_session
from nnslim.onnx.model_file import external_files, read_model
from nnslim.settings.eval import EvalSettings
from nnslim.settings.session import SessionSettings
from nnslim.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nnslim.data import Data
    from nnslim.data.preprocess import Preprocess

__all__ = ["evaluate"]


@dataclass(frozen=True)
class _Subject:
    """A file, and the ONNX file that stands for it."""

    file: EvalFile
    onnx_path: Path
    cost: OnnxCost
    n_parameters: int
    counted: Literal["network", "onnx initializers"]
    outside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Accuracy:
    """Where a file ran, and how well; the session itself is closed."""

    provider_requested: str
    provider_used: str
    image: tuple[int, int, int]
    score: Score | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Timing:
    """Latency of one file at one batch size; None where the file cannot take it."""

    latency: Latency | None
    e2e: Latency | None
    provider_used: str
    provider_options: Mapping[str, str]
    cudnn: str | None
    warnings: tuple[str, ...]


def evaluate(
    files: Sequence[EvalFile],
    data: Data | None = None,
    settings: EvalSettings | None = None,
    *,
    preprocess: Preprocess | None = None,
    on_step: Callable[[str], None] | None = None,
) -> EvalReport:
    """Measure size, work, accuracy and latency of each file in onnxruntime.

    What is not ``.onnx`` is exported into a temporary folder first, so that what is measured is
    what ships. Latencies of all files are measured in turns.

    Args:
        files: What to measure.
        data: Its test split gives accuracy; None measures none.
        settings: Device, batch sizes, duration.
        preprocess: For files without their own; None takes the data's default, with a note.
        on_step: Is told what comes next, for progress.

    Raises:
        InputError: A file cannot be read or does not fit the data.
        DeviceError: The GPU was required and cannot run a file.
        ExportMismatchError: The export of a network computes something else.
    """
    settings = settings or EvalSettings()
    say = on_step or (lambda _: None)
    machine = machine_warnings()
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        subjects: list[_Subject] = []
        accuracies: list[_Accuracy] = []
        for index, file in enumerate(files):
            say(f"reading {file.path.name}")
            subjects.append(_prepare(file, Path(folder) / f"{index}.onnx"))
        for subject in subjects:
            say(f"accuracy of {subject.file.path.name}")
            keep = len(subjects) > 1
            accuracies.append(_measure_accuracy(subject, data, settings, preprocess, keep=keep))
        timings: list[dict[int, _Timing]] = [{} for _ in subjects]
        images = [accuracy.image for accuracy in accuracies]
        for size in settings.batch_sizes:
            say(f"latency at batch size {size}")
            measured = _measure_latency(subjects, images, size, settings)
            for own, timing in zip(timings, measured, strict=True):
                own[size] = timing
        rows = zip(subjects, accuracies, timings, strict=True)
        results = [_result(*row) for row in rows]
        first = next((i for i, result in enumerate(results) if result.baseline), None)
        if first is not None:
            for index, subject in enumerate(subjects):
                if index != first:
                    say(f"{subject.file.path.name} against the baseline")
                    pair = subjects[first], subject
                    calm = _free_threads(settings, results[index].provider_used)
                    both = results[first], results[index]
                    against = _compare(pair, both, images[index], data, calm)
                    warnings = (*results[index].warnings, *_unclear(against, settings))
                    results[index] = replace(results[index], against=against, warnings=warnings)
    return EvalReport(
        files=tuple(results),
        settings=settings,
        data=data.name if data else None,
        n_images=len(data.test) if data else 0,
        n_classes=len(data.classes) if data else 0,
        cpu_threads=settings.session.n_threads,
        versions={
            "nnslim": __version__,
            "onnxruntime": ort.__version__,
            "torch": torch.__version__,
        },
        notes=(*_about_test(data.notes if data else ()), *_notes(results)),
        warnings=machine,
    )


def _prepare(file: EvalFile, onnx_path: Path) -> _Subject:
    network = file.network
    if network is None and file.path.suffix.lower() == ".onnx":
        model = read_model(file.path)
        cost, outside = onnx_file_cost(model), external_files(model, file.path)
        own = cost.n_parameters
        return _Subject(file, file.path, cost, own, "onnx initializers", outside)
    if not file.path.is_file():
        raise InputError(f"{file.path}: no such file", hint="check the path")
    if network is None:
        # Lazy: measuring ONNX files needs no reader of other formats.
        from nnslim.artifact import load_network  # noqa: PLC0415

        network = load_network(file.path)
    export_onnx(network, onnx_path)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return _Subject(file, onnx_path, onnx_file_cost(onnx_path), n_parameters, "network")


def _open(subject: _Subject, settings: EvalSettings, batch: int, *, tf32: bool) -> Session:
    """Open with a fixed batch, so that the GPU can tune for it; a graph is for bound inputs."""
    session = settings.session
    cuda = session.cuda if tf32 else replace(session.cuda, graph=False)
    wanted = replace(session, batch=batch, use_tf32=tf32, cuda=cuda)
    return open_session(subject.onnx_path, wanted)


def _measure_accuracy(
    subject: _Subject,
    data: Data | None,
    settings: EvalSettings,
    preprocess: Preprocess | None,
    *,
    keep: bool,
) -> _Accuracy:
    expected = preprocess or (data.preprocess if data else None)
    batch = 1 if expected is None else images_per_run(settings, expected)
    session = _open(subject, settings, batch, tf32=False)
    try:
        own = None if data is None else score(session, data, settings, preprocess, keep=keep)
        image = _image_shape(session, preprocess if own is None else own.preprocess)
    except InputError as error:
        message = error.message.removeprefix(f"{subject.onnx_path}: ")
        raise InputError(f"{subject.file.path}: {message}", hint=error.hint) from error
    return _Accuracy(
        provider_requested=session.provider_requested,
        provider_used=session.provider,
        image=image,
        score=own,
        warnings=(*session.warnings, *(own.warnings if own else ())),
    )


def _image_shape(session: Session, preprocess: Preprocess | None) -> tuple[int, int, int]:
    """(C, H, W) of the input; a file that leaves it open takes the preprocessing's."""
    given = (None, None, None) if preprocess is None else (preprocess.channels, *preprocess.size)
    channels, height, width = (a or b for a, b in zip(session.input_shape, given, strict=True))
    if channels is None or height is None or width is None:
        raise InputError("the file takes images of any size", hint="give data or preprocessing")
    return channels, height, width


def _measure_latency(
    subjects: Sequence[_Subject],
    images: Sequence[tuple[int, int, int]],
    size: int,
    settings: EvalSettings,
) -> list[_Timing]:
    """Time all files in turns, each on the same random images, by both clocks."""
    sessions = [_open(subject, settings, size, tf32=True) for subject in subjects]
    able = [index for index, session in enumerate(sessions) if session.batch == size]
    runs: list[Callable[[], object]] = []
    for index in able:
        generator = np.random.default_rng(settings.seed)
        x = generator.standard_normal((size, *images[index]), dtype=np.float32)
        runs += [sessions[index].bind(x), partial(sessions[index].run, x)]
    timed = measure_latency(runs, settings.latency)
    found = dict(zip(able, zip(timed[::2], timed[1::2], strict=True), strict=True))
    timings: list[_Timing] = []
    for index, session in enumerate(sessions):
        if index in found:
            session.check_still_on_device()
        else:
            session.warn(f"batch {size} not timed: the file is fixed to {session.batch} images")
        latency, e2e = found.get(index, (None, None))
        if latency is not None and (said := unsteadiness(latency)):
            session.warn(f"latency at batch {size} is unsteady: {'; '.join(said)}")
        provider, options = session.provider, session.provider_options
        warnings = session.warnings
        timings.append(_Timing(latency, e2e, provider, options, session.cudnn, warnings))
    return timings


def _compare(
    subjects: tuple[_Subject, _Subject],
    results: tuple[FileResult, FileResult],
    image: tuple[int, int, int],
    data: Data | None,
    settings: EvalSettings,
) -> Comparison:
    """Compare a file with its baseline; the second of each pair is the file."""
    baseline, own = results
    drop: AccuracyDrop | None = None
    if data is not None and baseline.accuracy is not None and own.accuracy is not None:
        drop = accuracy_drop(baseline.accuracy, own.accuracy, data.test.labels, data.classes)
    sizes = [size for size in settings.batch_sizes if size in baseline.latency]
    latency = {
        size: latency_ratio(
            partial(_fresh_run, subjects[0], settings, size, image),
            partial(_fresh_run, subjects[1], settings, size, image),
            settings.paired,
            settings.session.n_threads,
        )
        for size in sizes
        if size in own.latency
    }
    return Comparison(
        drop,
        latency,
        own.n_parameters / max(baseline.n_parameters, 1),
        own.macs / baseline.macs if baseline.macs and own.macs is not None else None,
        own.onnx_bytes / max(baseline.onnx_bytes, 1),
    )


def _free_threads(settings: EvalSettings, provider: str) -> EvalSettings:
    """Compare on the cores that are free: threads that wait for a core hide any difference."""
    if settings.session.threads is not None or not provider.startswith("CPU"):
        return settings
    busy = busy_cores()
    free = SessionSettings().n_threads - round(busy or 0.0)
    return replace(settings, session=replace(settings.session, threads=max(1, free)))


def _unclear(against: Comparison, settings: EvalSettings) -> tuple[str, ...]:
    wanted = settings.session.n_threads
    fewer = [
        f"compared on {found.threads} of {wanted} threads, since others keep cores busy; "
        "--threads chooses"
        for found in against.latency.values()
        if found.threads not in (None, wanted)
    ]
    wide = [
        f"batch {size}: {said}"
        for size, found in against.latency.items()
        for said in ratio_warnings(found.ratio, settings.paired.half_width)
    ]
    return (*fewer[:1], *wide)


def _fresh_run(
    subject: _Subject, settings: EvalSettings, size: int, image: tuple[int, int, int]
) -> Callable[[], None]:
    generator = np.random.default_rng(settings.seed)
    x = generator.standard_normal((size, *image), dtype=np.float32)
    return _open(subject, settings, size, tf32=True).bind(x)


def _result(subject: _Subject, accuracy: _Accuracy, timings: dict[int, _Timing]) -> FileResult:
    own = accuracy.score
    parts = (subject.file.path, *subject.outside)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes())
    warnings = [*accuracy.warnings, *(w for timing in timings.values() for w in timing.warnings)]
    timed_on = {timing.provider_used for timing in timings.values()} - {accuracy.provider_used}
    warnings += [f"timed on {other}, not {accuracy.provider_used}" for other in sorted(timed_on)]
    return FileResult(
        path=subject.file.path,
        baseline=subject.file.baseline,
        sha256=digest.hexdigest(),
        n_bytes=sum(part.stat().st_size for part in parts),
        onnx_bytes=sum(p.stat().st_size for p in (subject.onnx_path, *subject.outside)),
        n_parameters=subject.n_parameters,
        parameters_counted=subject.counted,
        macs=subject.cost.macs,
        macs_not_counted=subject.cost.not_counted,
        accuracy=own.accuracy if own else None,
        preprocess=own.preprocess if own else None,
        preprocess_from=own.origin if own else None,
        images_per_s=own.images_per_s if own else None,
        onnxruntime_busy=own.busy if own else None,
        latency={size: t.latency for size, t in timings.items() if t.latency is not None},
        latency_e2e={size: t.e2e for size, t in timings.items() if t.e2e is not None},
        provider_requested=accuracy.provider_requested,
        provider_used=accuracy.provider_used,
        provider_options=next((t.provider_options for t in timings.values()), {}),
        cudnn=next((timing.cudnn for timing in timings.values() if timing.cudnn), None),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _about_test(notes: Sequence[str]) -> Iterator[str]:
    """Leave out what only training uses; what a file was given is said of each file."""
    for note in notes:
        if not note.startswith(("preprocessing:", "augmentation:", "train:", "val:")):
            yield note


def _notes(results: Sequence[FileResult]) -> tuple[str, ...]:
    origins = {"file": "the file's own", "caller": "as asked for"}
    origins["data"] = "no preprocessing of its own, the data's default was used"
    given: dict[str, list[str]] = {}
    for result in results:
        if result.preprocess is not None and result.preprocess_from is not None:
            said = f"{result.preprocess.describe()}; {origins[result.preprocess_from]}"
            given.setdefault(said, []).append(str(result.path))
    notes = [f"{', '.join(paths)}: {said}" for said, paths in given.items()]
    if any(result.parameters_counted == "onnx initializers" for result in results):
        notes.append(
            "parameters of .onnx files are the values they store; BatchNorm is folded into the "
            "convolutions there, so they are fewer than the network's"
        )
    if len({result.provider_used for result in results}) > 1:
        notes.append("the files ran on different providers: their latencies do not compare")
    return tuple(notes)
