"""The two faces of progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

__all__ = ["LogProgress", "TerminalProgress"]


class TerminalProgress:
    """A bar that disappears when the work is done; shown while ``bars`` is entered."""

    def __init__(self, console: Console, label: str, total: int) -> None:
        self.bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self.bars.add_task(label, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar."""
        self.bars.update(self._task, advance=steps, note=note)

    def skip(self, steps: int, note: str = "") -> None:
        """Move the bar, and measure the speed from here."""
        done = self.bars.tasks[0].completed + steps
        self.bars.reset(self._task, completed=int(done), note=note)


class LogProgress:
    """Lines such as ``fine-tuning 3/40 loss 0.412 eta 4m``, with ``interval_s`` between them.

    Example:
        >>> times = iter([0.0, 10.0, 40.0])
        >>> work = LogProgress(print, "scoring", 4, interval_s=30.0, clock=lambda: next(times))
        >>> work.advance(note="loss 0.4")
        >>> work.advance(note="loss 0.3")
        scoring 2/4 loss 0.3 eta 40s
    """

    def __init__(
        self,
        say: Callable[[str], None],
        label: str,
        total: int,
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._label, self._total = say, label, total
        self._interval_s, self._clock = interval_s, clock
        self._start = self._last = clock()
        self._done = self._before = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count, and write a line when the last one is long enough ago."""
        self._done += steps
        self._write(note)

    def skip(self, steps: int, note: str = "") -> None:
        """Count, and measure the speed from here."""
        self._done += steps
        self._start, self._before = self._clock(), self._done
        self._write(note)

    def _write(self, note: str) -> None:
        now, measured = self._clock(), self._done - self._before
        if now - self._last < self._interval_s:
            return
        self._last = now
        left_s = (now - self._start) / measured * (self._total - self._done) if measured else 0.0
        parts = [self._label, f"{self._done}/{self._total}", note, _eta(left_s)]
        self._say(" ".join(part for part in parts if part))


def _eta(seconds: float) -> str:
    if seconds <= 0:
        return ""
    if seconds < 120:
        return f"eta {seconds:.0f}s"
    minutes = round(seconds / 60)
    return f"eta {minutes}m" if minutes < 120 else f"eta {minutes // 60}h {minutes % 60:02}m"
