"""Measure files as they ship: each one as ONNX in onnxruntime, all of them side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnxruntime as ort
import torch

from nnslim.data import Data
from nnslim.data.preprocess import Preprocess
from nnslim.errors import InputError
from nnslim.measure.comparison import compare, comparison_warnings, on_free_cores
from nnslim.measure.latency import Latency, measure_latency
from nnslim.measure.results import EvalFile, EvalReport, FileResult, evaluation_notes
from nnslim.measure.scoring import Score, images_per_run, score
from nnslim.measure.steadiness import machine_warnings, unsteadiness
from nnslim.measure.subject import Subject, random_images
from nnslim.onnx import Session
from nnslim.settings.eval import EvalSettings
from nnslim.version import __version__

__all__ = ["evaluate"]


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
        preprocess: For files without one; None takes the data's default, with a note.
        on_step: Called with what comes next, for progress.

    Raises:
        InputError: A file cannot be read or does not fit the data.
        DeviceError: The GPU was required and cannot run a file.
        ExportMismatchError: The export of a network computes something else.
    """
    settings = settings or EvalSettings()
    machine = machine_warnings()
    evaluation = _Evaluation(data, settings, preprocess, on_step or (lambda _: None))
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        results = evaluation.results(files, Path(folder))
    return evaluation.report(results, machine)


@dataclass(frozen=True)
class _Evaluation:
    """What all files of one evaluation share."""

    data: Data | None
    settings: EvalSettings
    preprocess: Preprocess | None
    on_step: Callable[[str], None]

    def results(self, files: Sequence[EvalFile], folder: Path) -> tuple[FileResult, ...]:
        """Measure the files, and each against the first that is a baseline."""
        subjects = [self._subject(file, folder / f"{i}.onnx") for i, file in enumerate(files)]
        alone = [self._untimed(subject, keep=len(subjects) > 1) for subject in subjects]
        images = [image for _, image in alone]
        sizes = self.settings.batch_sizes
        timings = {size: self._timings(subjects, images, size) for size in sizes}
        results = [
            _timed(result, {size: timing[i] for size, timing in timings.items()})
            for i, (result, _) in enumerate(alone)
        ]
        first = next((i for i, result in enumerate(results) if result.baseline), None)
        if first is None:
            return tuple(results)
        return tuple(
            result
            if i == first
            else self._compared((subjects[first], subjects[i]), (results[first], result), images[i])
            for i, result in enumerate(results)
        )

    def report(self, results: tuple[FileResult, ...], machine: tuple[str, ...]) -> EvalReport:
        """Put the results together with what was measured on."""
        data = self.data
        return EvalReport(
            files=results,
            settings=self.settings,
            data=data.name if data else None,
            n_images=len(data.test) if data else 0,
            n_classes=len(data.classes) if data else 0,
            cpu_threads=self.settings.session.n_threads,
            versions={
                "nnslim": __version__,
                "onnxruntime": ort.__version__,
                "torch": torch.__version__,
            },
            notes=evaluation_notes(data.notes if data else (), results),
            warnings=machine,
        )

    def _subject(self, file: EvalFile, onnx_path: Path) -> Subject:
        self.on_step(f"reading {file.path.name}")
        return Subject.of(file, onnx_path)

    def _untimed(self, subject: Subject, *, keep: bool) -> tuple[FileResult, tuple[int, int, int]]:
        """Measure all but latency; returns also (C, H, W) of the inputs."""
        self.on_step(f"accuracy of {subject.name}")
        data, settings, preprocess = self.data, self.settings, self.preprocess
        expected = preprocess or (data.preprocess if data else None)
        batch = 1 if expected is None else images_per_run(settings, expected)
        session = subject.open(settings, batch, tf32=False)
        try:
            scored = None if data is None else score(session, data, settings, preprocess, keep=keep)
            image = _image_shape(session, preprocess if scored is None else scored.preprocess)
        except InputError as error:
            message, hint = error.raw
            message = message.removeprefix(f"{subject.onnx_path}: ")
            raise InputError(f"{subject.file.path}: {message}", hint) from error
        return _result(subject, session, scored), image

    def _timings(
        self, subjects: Sequence[Subject], images: Sequence[tuple[int, int, int]], size: int
    ) -> list[_Timing]:
        """Time all files in turns, each on the same random images, by both clocks."""
        self.on_step(f"latency at batch size {size}")
        sessions = [subject.open(self.settings, size, tf32=True) for subject in subjects]
        able = [index for index, session in enumerate(sessions) if session.batch == size]
        runs: list[Callable[[], object]] = []
        for index in able:
            x = random_images(self.settings, size, images[index])
            runs += [sessions[index].bind(x), partial(sessions[index].run, x)]
        timed = measure_latency(runs, self.settings.latency)
        pairs = dict(zip(able, zip(timed[::2], timed[1::2], strict=True), strict=True))
        return [
            _timing(session, size, *pairs.get(index, (None, None)))
            for index, session in enumerate(sessions)
        ]

    def _compared(
        self,
        subjects: tuple[Subject, Subject],
        results: tuple[FileResult, FileResult],
        image: tuple[int, int, int],
    ) -> FileResult:
        """Compare the second result with the first one, the baseline's."""
        self.on_step(f"{subjects[1].name} against the baseline")
        settings, result = self.settings, results[1]
        free = on_free_cores(settings, result.provider_used)
        against = compare(subjects, results, image, self.data, free)
        warnings = (*result.warnings, *comparison_warnings(against, settings))
        return replace(result, against=against, warnings=warnings)


def _image_shape(session: Session, preprocess: Preprocess | None) -> tuple[int, int, int]:
    """(C, H, W) of the input; a file that leaves it open takes the preprocessing's."""
    given = (None, None, None) if preprocess is None else (preprocess.channels, *preprocess.size)
    channels, height, width = (a or b for a, b in zip(session.input_shape, given, strict=True))
    if channels is None or height is None or width is None:
        raise InputError("the file takes images of any size", hint="give data or preprocessing")
    return channels, height, width


def _timing(session: Session, size: int, latency: Latency | None, e2e: Latency | None) -> _Timing:
    if latency is None:
        session.warn(f"batch {size} not timed: the file is fixed to {session.batch} images")
    else:
        session.check_still_on_device()
        if reasons := unsteadiness(latency):
            session.warn(f"latency at batch {size} is unsteady: {'; '.join(reasons)}")
    provider, options = session.provider, session.provider_options
    return _Timing(latency, e2e, provider, options, session.cudnn, session.warnings)


def _result(subject: Subject, session: Session, scored: Score | None) -> FileResult:
    return FileResult(
        path=subject.file.path,
        baseline=subject.file.baseline,
        sha256=subject.sha256,
        n_bytes=subject.n_bytes,
        onnx_bytes=subject.onnx_bytes,
        n_parameters=subject.n_parameters,
        parameters_counted=subject.counted,
        macs=subject.cost.macs,
        macs_not_counted=subject.cost.not_counted,
        accuracy=scored and scored.accuracy,
        preprocess=scored and scored.preprocess,
        preprocess_from=scored and scored.origin,
        images_per_s=scored and scored.images_per_s,
        onnxruntime_busy=scored and scored.busy,
        latency={},
        provider_requested=session.provider_requested,
        provider_used=session.provider,
        provider_options={},
        cudnn=None,
        warnings=(*session.warnings, *(scored.warnings if scored else ())),
    )


def _timed(result: FileResult, timings: Mapping[int, _Timing]) -> FileResult:
    """Add the latencies, by batch size."""
    used = result.provider_used
    warnings = [*result.warnings, *(w for timing in timings.values() for w in timing.warnings)]
    elsewhere = {timing.provider_used for timing in timings.values()} - {used}
    warnings += [f"timed on {other}, not {used}" for other in sorted(elsewhere)]
    return replace(
        result,
        latency={size: t.latency for size, t in timings.items() if t.latency is not None},
        latency_e2e={size: t.e2e for size, t in timings.items() if t.e2e is not None},
        provider_options=next((t.provider_options for t in timings.values()), {}),
        cudnn=next((timing.cudnn for timing in timings.values() if timing.cudnn), None),
        warnings=tuple(dict.fromkeys(warnings)),
    )
