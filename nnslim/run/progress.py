"""Progress of training: the events of ``fit`` as steps of a bar and lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nnslim.sink import Progress, Sink
    from nnslim.train.records import TrainEvent

__all__ = ["ShowTraining", "in_turn"]


class ShowTraining:
    """A listener for ``fit`` that advances progress of ``epochs * steps`` and reports each epoch.

    Steps that a resumed run did before, and the first one, which may compile, count as done but not
    for the time that is left.

    Example:
        >>> from nnslim.sink import SILENT
        >>> from nnslim.train.records import TrainEvent
        >>> with SILENT.progress("fine-tuning", 3900) as progress:
        ...     ShowTraining(progress, SILENT)(TrainEvent("step", 1, 10, 1, 390, loss=2.3, lr=0.1))
    """

    def __init__(self, progress: Progress, sink: Sink) -> None:
        self._progress, self._sink = progress, sink
        self._done = 0
        self._started = False

    def __call__(self, event: TrainEvent) -> None:
        """Show one event."""
        if event.kind == "start":
            self._done = event.epoch * event.steps + event.step
            if self._done:
                self._progress.skip(self._done)
        elif event.kind == "step":
            self._step(event)
        elif event.record is not None:
            self._sink.info(_line(event))
        elif event.note is not None:
            show = self._sink.warn if event.kind == "warning" else self._sink.info
            show(event.note)

    def _step(self, event: TrainEvent) -> None:
        done = (event.epoch - 1) * event.steps + event.step
        count = self._progress.advance if self._started else self._progress.skip
        count(done - self._done, f"epoch {event.epoch}/{event.epochs} loss {event.loss:.3f}")
        self._done, self._started = done, True


def in_turn(*listeners: Callable[[TrainEvent], None]) -> Callable[[TrainEvent], None]:
    """Return one listener that calls several, in order."""

    def listen(event: TrainEvent) -> None:
        for listener in listeners:
            listener(event)

    return listen


def _line(event: TrainEvent) -> str:
    record = event.record
    assert record is not None
    val = "" if record.val_top1 is None else f", validation top-1 {record.val_top1:.2f}%"
    return (
        f"epoch {record.epoch}/{event.epochs}: loss {record.loss:.4f}, training top-1"
        f" {record.train_top1:.2f}%{val}, {record.seconds:.0f} s"
    )
