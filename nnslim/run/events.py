"""``events.jsonl``: what happened in training, one JSON object a line, whatever kills the run.

Lines are only ever appended, except that a resumed run takes back the steps it repeats.
"""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, cast

from nnslim.artifact.replacing import replacing
from nnslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nnslim.train.records import TrainEvent

__all__ = ["EventLog", "read_events"]


class EventLog:
    """The log of a run, which may have several stages of training.

    Every record has ``time`` (seconds since 1970), ``stage`` and ``kind``. A ``step`` has ``epoch``
    (1 for the first), ``step``, ``loss`` and ``lr``; an ``epoch`` has ``epoch``, ``loss``,
    ``train_top1``, ``val_top1`` (percent), ``lr`` and ``seconds``; a ``start`` has the ``epoch``
    and ``step`` that are done already; a ``note`` or ``warning`` has ``note``. In growing, a
    ``round`` has its ``group``, ``count``, ``planted``, ``judged`` and ``candidates``, as in
    ``report.json``, and ``taken back`` says ``why``.

    Args:
        path: The file; its directory exists. An end that a kill tore off is cut.
        every: Steps of an epoch between two records.
        clock: Gives the time.

    Raises:
        InputError: The file is there, its end is torn off, and the rest is no such log.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from nnslim.train.records import TrainEvent
        >>> log = EventLog(Path(tempfile.mkdtemp()) / "events.jsonl")
        >>> log.stage("fine-tuning")(TrainEvent("step", 1, 10, 50, 390, loss=0.5, lr=0.1))
        >>> [(entry["stage"], entry["step"], entry["loss"]) for entry in read_events(log.path)]
        [('fine-tuning', 50, 0.5)]
    """

    def __init__(self, path: Path, every: int = 50, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._every = every
        self._clock = clock
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            self._rewrite(read_events(path))

    def stage(self, name: str) -> Callable[[TrainEvent], None]:
        """Return a listener for ``fit`` that logs under this name, the same after a resume."""
        return _Stage(self, name, self._every)

    def append(self, stage: str, kind: str, **values: object) -> None:
        """Write one record; numbers that JSON has not (NaN, infinity) become null."""
        entry = {"time": round(self._clock(), 3), "stage": stage, "kind": kind, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(entry), allow_nan=False) + "\n")

    def append_once(self, stage: str, kind: str, **values: object) -> None:
        """Write the only record of its kind of a stage; what is there already stays."""
        if not any(entry["stage"] == stage and entry["kind"] == kind for entry in self._entries()):
            self.append(stage, kind, **values)

    def take_back(self, stage: str, epoch: int, step: int) -> int:
        """Drop what a stage did after so many epochs and steps of the next: it is done again.

        Returns:
            The number of its epochs that are left in the log.
        """
        entries = self._entries()
        kept = [
            entry for entry in entries if entry["stage"] != stage or _place(entry) <= (epoch, step)
        ]
        if len(kept) < len(entries):
            self._rewrite(kept)
        return sum(entry["stage"] == stage and entry["kind"] == "epoch" for entry in kept)

    def _entries(self) -> list[dict[str, object]]:
        return read_events(self.path) if self.path.exists() else []

    def _rewrite(self, entries: list[dict[str, object]]) -> None:
        with replacing(self.path) as temporary:
            lines = (json.dumps(entry) + "\n" for entry in entries)
            temporary.write_text("".join(lines), encoding="utf-8")


def read_events(path: Path) -> list[dict[str, object]]:
    """Return the records of a log, oldest first; a last line without an end is passed over.

    Raises:
        InputError: The file cannot be read, or a line of it is no JSON object.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        entries = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable log of events ({error})") from error
    bad = [n for n, entry in enumerate(entries, 1) if not {"stage", "kind"} <= set(entry)]
    if bad:
        raise InputError(f"{path}: line {bad[0]} is no event, which has a stage and a kind")
    return entries


class _Stage:
    """Logs the events of one training run."""

    def __init__(self, log: EventLog, name: str, every: int) -> None:
        self._log, self._name, self._every = log, name, every
        self._logged = (0, 0)

    def __call__(self, event: TrainEvent) -> None:
        place = {"epoch": event.epoch, "step": event.step}
        if event.kind == "start":
            logged = self._log.take_back(self._name, event.epoch, event.step)
            for record in event.history[logged:]:  # a kill came between checkpoint and log
                self._append("epoch", **vars(record))
            self._append("start", **place)
        elif event.kind == "step":
            since = self._logged[1] if self._logged[0] == event.epoch else 0
            if event.step - since >= self._every or event.step == event.steps:
                self._logged = (event.epoch, event.step)
                self._append("step", **place, loss=event.loss, lr=event.lr)
        elif event.record is not None:
            self._append("epoch", **vars(event.record))
        else:
            self._append(event.kind, note=event.note)

    def _append(self, kind: str, **values: object) -> None:
        self._log.append(self._name, kind, **values)


def _place(entry: dict[str, object]) -> tuple[int, int]:
    """Return the epochs and the steps of the next one that are done after a record."""
    epoch, step = entry.get("epoch"), entry.get("step")
    if entry["kind"] == "step" and isinstance(epoch, int) and isinstance(step, int):
        return epoch - 1, step
    if entry["kind"] == "epoch" and isinstance(epoch, int):
        return epoch, 0
    return 0, 0


def _plain(value: object) -> object:
    """Numbers that JSON has not (NaN, infinity) become null, however deep."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
