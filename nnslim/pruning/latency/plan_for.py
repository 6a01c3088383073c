"""A budget in measured latency: the plan that loses least and runs fast enough, as measured.

times of layers ──► line of removals ──► prefix ──► export, measure ──► next prefix … ──► check
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnslim.errors import ConfigError
from nnslim.pruning.latency.device import worst
from nnslim.pruning.latency.model import LatencyModel
from nnslim.pruning.latency.result import LatencyPlan, SearchSettings, Trial
from nnslim.pruning.latency.search import Goal, PrefixSearch
from nnslim.pruning.plans.line import rank_channels
from nnslim.pruning.plans.plan import (
    Plan,
    first_that,
    plan_prefix,
    shortest_prefix,
    unreachable_hint,
)
from nnslim.settings.budget import LatencyBudget

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from nnslim.pruning.latency.device import Device, Ratios
    from nnslim.pruning.plans.constraints import Constraints

__all__ = ["plan_for_latency"]


def plan_for_latency(
    device: Device,
    scores: Mapping[str, np.ndarray],
    constraints: Constraints,
    budget: LatencyBudget,
    settings: SearchSettings | None = None,
) -> LatencyPlan:
    """Choose the channels to remove so that the network is fast enough, as measured.

    Channels go in the order of their score per share of the latency (and of what else is limited).
    The budget holds at every batch size, together with the limits of the constraints.

    Raises:
        ConfigError: A budget cannot be reached; says the smallest reachable.
        ExportMismatchError: A cut network's export computes something else.
    """
    search = _Search(device, scores, constraints, budget, settings or SearchSettings())
    best = search.run()
    if best is None:
        raise _unreachable(budget, search.trials[-1], constraints)
    return search.result(*best)


class _Search:
    """One search with its measurements."""

    def __init__(
        self,
        device: Device,
        scores: Mapping[str, np.ndarray],
        constraints: Constraints,
        budget: LatencyBudget,
        settings: SearchSettings,
    ) -> None:
        self.trials: list[Trial] = []
        self._device, self._budget, self._settings = device, budget, settings
        self._times, self._control = device.layer_times(), device.control()
        self._model = model = LatencyModel(device.costs, self._times)
        worth = model.worth()
        self._line = line = rank_channels(device.channels, device.costs, scores, constraints, worth)
        target = budget.share_of({n: ratio.parent_ms for n, ratio in self._control.items()})
        start = shortest_prefix(line, constraints)
        self._goal = Goal(target, settings.tolerance, start, len(line))
        self._search = PrefixSearch(self._goal, lambda n: model.ratio(line.widths(n)))
        self._plans: dict[int, Plan] = {}

    def run(self) -> tuple[int, Ratios] | None:
        """Search and check until the check agrees; None where no plan is fast enough."""
        goal, settings = self._goal, self._settings
        if goal.target >= 1 and goal.start == 0:
            return 0, self._device.control()
        while True:
            while self._left and (n := self._search.next(self._left)) is not None:
                self._search.record(n, worst(self._try(n)).ratio)
            n = self._search.best
            if n is None:
                return None
            check = self._device.measure(self._plan(n), settings.thorough)
            ratio = worst(check)
            in_reach = ratio.low <= goal.target <= ratio.ratio + settings.reach
            if not in_reach:
                self._search.correct(n, ratio.ratio)
            if in_reach or not self._left or self._search.next(self._left) is None:
                return n, check

    def result(self, n: int, check: Ratios) -> LatencyPlan:
        """Return the plan of so many steps, which was measured last."""
        line, model, goal, ratio = self._line, self._model, self._goal, worst(check).ratio
        # About how many steps would use up the room that the plan leaves below its target.
        wanted = model.ratio(line.widths(n)) + (goal.target - ratio)
        at_target = first_that(lambda m: model.ratio(line.widths(m)) <= wanted, 0, len(line))
        return LatencyPlan(
            plan=self._plan(n),
            lost=line.lost(n),
            lost_at_target=line.lost(at_target if n else 0),
            budget=self._budget,
            target=goal.target,
            check=check,
            control=self._control,
            trials=tuple(self.trials),
            times=self._times,
            facts=self._device.facts(),
            warnings=(
                *_noise(self._control, self._settings),
                *_missed(check, goal.target, self._budget),
                *_overdone(ratio, goal, n, self._settings),
            ),
        )

    def _plan(self, n: int) -> Plan:
        """The same object each time, so that the device knows what it has exported."""
        if n not in self._plans:
            self._plans[n] = plan_prefix(self._line, n)
        return self._plans[n]

    @property
    def _left(self) -> int:
        return self._settings.max_trials - len(self.trials)

    def _try(self, n: int) -> Ratios:
        ratios = self._device.measure(self._plan(n), self._settings.quick)
        estimate = self._model.ratio(self._line.widths(n))
        self.trials.append(Trial(self._plan(n), self._line.lost(n), estimate, ratios))
        return ratios


def _unreachable(budget: LatencyBudget, last: Trial, constraints: Constraints) -> ConfigError:
    least = worst(last.ratios)
    return ConfigError(
        f"[[latency.budget={budget}]] cannot be reached: the smallest reachable, as measured, is"
        f" {100 * least.ratio:.1f}% ({least.candidate_ms:.3g} of {least.parent_ms:.3g} ms)",
        hint=unreachable_hint(constraints),
    )


def _noise(control: Ratios, settings: SearchSettings) -> tuple[str, ...]:
    return tuple(
        f"the machine is noisy: at batch size {size} the network against itself measures"
        f" {ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        for size, ratio in control.items()
        if not ratio.low <= 1 <= ratio.high or ratio.high - ratio.low > 2 * settings.tolerance
    )


def _missed(check: Ratios, target: float, budget: LatencyBudget) -> tuple[str, ...]:
    return tuple(
        f"the latency budget of {budget} at batch size {size} is missed: the last check measures"
        f" {100 * ratio.ratio:.1f}% ({100 * ratio.low:.1f} to {100 * ratio.high:.1f}), above"
        f" {100 * target:.1f}%"
        for size, ratio in check.items()
        if ratio.low > target
    )


def _overdone(ratio: float, goal: Goal, n: int, settings: SearchSettings) -> tuple[str, ...]:
    if ratio >= goal.target - settings.reach or n <= goal.start:
        return ()
    return (
        f"the plan measures {100 * ratio:.1f}%, further below {100 * goal.target:.1f}% than need"
        f" be: the steps are coarse, or {settings.max_trials} trials were too few",
    )
