"""Prepare the next batches while one is computed, and know how long the computing took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Stopwatch", "ahead"]

T = TypeVar("T")
R = TypeVar("R")


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


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Iterate as ever, while a thread prepares up to ``depth`` more items.

    What is raised in there is raised here. Leaving early ends the thread.

    Example:
        >>> list(ahead(range(3)))
        [0, 1, 2]
    """
    parts = ([item] for item in items)  # an empty list is the end
    pool = ThreadPoolExecutor(1)
    try:
        coming = deque(pool.submit(next, parts, []) for _ in range(depth))
        while part := coming.popleft().result():
            coming.append(pool.submit(next, parts, []))
            yield part[0]
    finally:
        pool.shutdown(cancel_futures=True)
