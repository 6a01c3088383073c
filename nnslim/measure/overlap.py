"""Prepare the next batches while one is computed, and know how long the computing took."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Stopwatch", "ahead"]

T = TypeVar("T")
R = TypeVar("R")
_POLL_S = 0.2


@dataclass
class Stopwatch:
    """Wall time since it was made, and the part of it that was spent in a function.

    Attributes:
        busy_s: Seconds in the functions called so far.
        clock: Gives the time in seconds.
    """

    busy_s: float = 0.0
    clock: Callable[[], float] = time.perf_counter
    _made: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._made = self.clock()

    @property
    def total_s(self) -> float:
        """Seconds since it was made."""
        return self.clock() - self._made

    def call(self, function: Callable[[T], R], argument: T) -> R:
        """Call a function, and count the time that it takes.

        Example:
            >>> watch = Stopwatch()
            >>> watch.call(len, "abc"), watch.busy_s <= watch.total_s
            (3, True)
        """
        began = self.clock()
        result = function(argument)
        self.busy_s += self.clock() - began
        return result


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _Feeder(Generic[T]):
    """Iterates in another thread, a few items ahead."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[T | _Failure | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __iter__(self) -> Iterator[T]:
        self._thread.start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, _Failure):
                    raise item.error
                yield item
        finally:
            self._stopped.set()
            self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:
            self._put(_Failure(error))

    def _put(self, item: T | _Failure | None) -> bool:
        """Wait for room; False where nobody wants more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Iterate as ever, while a thread prepares up to ``depth`` more items.

    What is raised in there is raised here. Leaving early ends the thread.

    Example:
        >>> list(ahead(range(3)))
        [0, 1, 2]
    """
    return iter(_Feeder(items, depth))
