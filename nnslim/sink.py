"""How library code speaks while it works, without knowing whether anybody listens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

__all__ = ["SILENT", "Progress", "Sink"]


class Progress(Protocol):
    """A piece of work whose steps are counted."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps as done; ``note`` is the latest figure, such as ``loss 0.41``."""

    def skip(self, steps: int, note: str = "") -> None:
        """Count steps as done that say nothing about the speed: done earlier, or warming up."""


class Sink(Protocol):
    """Where messages and progress go: a terminal, a log, or nowhere."""

    def info(self, message: str) -> None:
        """Say what was decided or done."""

    def detail(self, message: str) -> None:
        """Say what only somebody who looks for it wants to know."""

    def warn(self, message: str) -> None:
        """Say what the user should look at, although the work goes on."""

    def progress(
        self, label: str, total: int, *, each: bool = False
    ) -> AbstractContextManager[Progress]:
        """Open a count of ``total`` steps; ``each`` asks for a line per step in a log."""
        ...


class _Silent:
    """Both protocols, doing nothing."""

    def info(self, message: str) -> None: ...

    def detail(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def advance(self, steps: int = 1, note: str = "") -> None: ...

    def skip(self, steps: int, note: str = "") -> None: ...

    @contextmanager
    def progress(self, label: str, total: int, *, each: bool = False) -> Generator[Progress]:
        yield self


SILENT: Sink = _Silent()
