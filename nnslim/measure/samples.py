"""Every timed call of an evaluation as one table, for those who want to look themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnslim.artifact.replacing import replacing
from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nnslim.measure.latency import Latency
    from nnslim.measure.results import EvalReport

__all__ = ["check_samples", "sample_table", "write_samples"]

_NAMES = ("path", "batch_size", "clock", "session", "round", "ms")


def sample_table(report: EvalReport) -> dict[str, np.ndarray]:
    """Return one row per timed call, as columns of equal length in the order of the calls.

    ``clock`` is ``compute`` or ``e2e`` of a file alone, and ``baseline``, ``paired`` or ``control``
    where it was measured against the baseline; rows of one session and round belong together.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in _NAMES}
    for file, batch, clock, session, latency in _measured(report):
        counts = [len(calls) for calls in latency.rounds_ms]
        values = (file, batch, clock, session, np.repeat(np.arange(len(counts)), counts))
        for name, value in zip(_NAMES, (*values, latency.samples_ms), strict=True):
            columns[name].append(np.broadcast_to(np.asarray(value), (latency.n,)))
    return {
        name: np.concatenate(parts) if parts else np.empty(0) for name, parts in columns.items()
    }


def check_samples(path: Path, *, overwrite: bool) -> Path:
    """Refuse a file that could not be written, before minutes are spent on it.

    Raises:
        ConfigError: Not ``.npz``, a folder that is not there, or a file that is.
    """
    if path.suffix != ".npz":
        raise ConfigError(f"[[reports.samples={path}]]: samples are written as .npz")
    if not path.parent.is_dir():
        raise ConfigError(f"[[reports.samples={path}]]: there is no folder {path.parent}")
    if path.exists() and not overwrite:
        message = f"[[reports.samples={path}]] is there already"
        raise ConfigError(message, hint="give [[overwrite]]")
    return path


def write_samples(path: Path, report: EvalReport) -> Path:
    """Write the table as ``.npz``, a column per name, in one step and without pickle.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **sample_table(report))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _measured(report: EvalReport) -> Iterator[tuple[str, int, str, int, Latency]]:
    for result in report.files:
        name = str(result.path)
        for clock, latencies in (("compute", result.latency), ("e2e", result.latency_e2e)):
            for size, latency in latencies.items():
                yield name, size, clock, 0, latency
        for size, measured in result.against.latency.items() if result.against else ():
            for number, (parent, other) in enumerate(measured.ratio.sessions):
                yield name, size, "baseline", number, parent
                yield name, size, "paired", number, other
            for number, (_, again) in enumerate(measured.control.sessions):
                yield name, size, "control", number, again
