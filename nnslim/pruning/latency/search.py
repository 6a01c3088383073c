"""Find the prefix of a line that meets a measured latency, in few measurements. Pure arithmetic.

Each measurement costs an export, so the estimate (``nnslim.measure.layer_times``) says where to
look: measured latency is close to a straight line in the estimated one, and what is off (steps at
the widths of vector registers, operators that are not counted) is learned from the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnslim.pruning.plans.plan import first_that

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Goal", "PrefixSearch"]


@dataclass(frozen=True)
class Goal:
    """Where a measured ratio must end."""

    target: float  # at most this share of the parent's latency
    tolerance: float  # and no further below it, where steps allow
    start: int  # steps that other budgets ask for in any case
    end: int  # steps of the whole line


class PrefixSearch:
    """Says which prefix to measure next, and which of the measured ones is the answer.

    Below the target lies every prefix from some point on, or so it is taken: where the
    measurements contradict that, the shortest prefix that was measured below counts.

    Example:
        >>> search = PrefixSearch(Goal(0.6, 0.02, 0, 100), lambda n: 1 - n / 100)
        >>> while (n := search.next()) is not None:
        ...     search.record(n, 1 - 0.8 * n / 100)  # the estimate promises too much
        >>> search.measured
        {42: 0.6639999999999999, 52: 0.584}
    """

    def __init__(self, goal: Goal, estimate: Callable[[int], float]) -> None:
        """Start with what is known; the estimate after ``n`` steps never rises with ``n``."""
        self.goal = goal
        self.measured: dict[int, float] = {}
        self._estimate = estimate

    def record(self, n: int, ratio: float) -> None:
        """Take note of a measurement; a later one of the same prefix replaces it."""
        self.measured[n] = ratio

    def correct(self, n: int, ratio: float) -> None:
        """Replace a measurement by a better one, and forget others that may be as wrong as it was.

        Those are the ones that lie closer to the target than the old and the new one to each other.
        """
        wrong = abs(ratio - self.measured[n])
        self.measured = {
            m: y for m, y in self.measured.items() if abs(y - self.goal.target) > wrong
        }
        self.record(n, ratio)

    @property
    def best(self) -> int | None:
        """The shortest prefix that was measured at or below the target."""
        return min((n for n, y in self.measured.items() if y <= self.goal.target), default=None)

    def next(self, left: int = 2) -> int | None:
        """Return the prefix to measure next; None when the search is settled.

        With one measurement ``left`` and no success before, it is the end of the line.
        """
        goal, below = self.goal, self.best
        if below is None:
            if goal.end in self.measured:
                return None
            return goal.end if left <= 1 else self._further()
        close = self.measured[below] >= goal.target - goal.tolerance
        above = max((n for n in self._points() if n < below), default=0)
        above = max(above, goal.start - 1)
        # Latency may fall in steps; what no longer changes the estimate is worth no export.
        fine = self._estimate(above) - self._estimate(below) <= goal.tolerance
        if close or fine or below <= above + 1:
            return None
        return min(max(self._between(above, below), above + 1), below - 1)

    def _points(self) -> dict[int, float]:
        return {0: 1.0, **self.measured}

    @property
    def _aim(self) -> float:
        return self.goal.target - self.goal.tolerance / 2

    def _further(self) -> int:
        """All measurements so far were too slow: follow their slope, and a bit more each time."""
        points = self._points()
        last = max(points)
        nearest = max((n for n in points if n < last), default=0)
        slope = 1.0
        fall = self._estimate(nearest) - self._estimate(last)
        if fall > 0:
            slope = min(max((points[nearest] - points[last]) / fall, 0.25), 1.5)
        ask = (points[last] - self._aim) / slope * (1 + 0.25 * max(len(self.measured) - 1, 0))
        wanted = self._first_at(self._estimate(last) - ask)
        return min(max(wanted, last + bool(self.measured), self.goal.start), self.goal.end)

    def _between(self, above: int, below: int) -> int:
        """Where the straight line through both measurements crosses the aim."""
        points = self._points()
        x_below, y_below = self._estimate(below), points[below]
        if above not in points:  # the other budgets' start, which nobody has measured
            return self._first_at(x_below + self._aim - y_below)
        x_above, y_above = self._estimate(above), points[above]
        if y_above <= y_below:
            return (above + below) // 2
        share = (self._aim - y_below) / (y_above - y_below)
        # Never next to an end: where latency falls in steps, the bracket would shrink too slowly.
        return self._first_at(x_below + min(max(share, 0.25), 0.75) * (x_above - x_below))

    def _first_at(self, ratio: float) -> int:
        """First prefix that is estimated at or below a ratio; the end where none is."""
        return first_that(
            lambda n: n >= self.goal.end or self._estimate(n) <= ratio, 0, self.goal.end
        )
