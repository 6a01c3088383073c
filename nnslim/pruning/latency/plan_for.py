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
from nnslim.pruning.plans.line import Line, rank_channels
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

__all__ = ["LatencyBudget", "LatencyPlan", "SearchSettings", "Trial", "plan_for_latency"]


def plan_for_latency(
    device: Device,
    scores: Mapping[str, np.ndarray],
    constraints: Constraints,
    budget: LatencyBudget,
    settings: SearchSettings | None = None,
) -> LatencyPlan:
    """Choose the channels to remove so that the network is fast enough, as measured.

    Channels go in the order of their score per share of the latency (and of what else is limited).
    The budget holds at every batch size, together with the rules' own limits.

    Args:
        device: Measures the network's plans, see ``open_device``.
        scores: One score per channel and prunable group, ``(width,)``; low goes first.
        constraints: Further budgets, and protections.
        budget: Latency that may remain.
        settings: How long and how closely to search.

    Raises:
        ConfigError: A budget cannot be reached; says the smallest reachable.
        ExportMismatchError: A cut network's export computes something else.
    """
    settings = settings or SearchSettings()
    times, control = device.layer_times(), device.control()
    model = LatencyModel(device.costs, times)
    line = rank_channels(device.channels, device.costs, scores, constraints, model.worth())
    target = budget.share_of({size: own.parent_ms for size, own in control.items()})
    goal = Goal(target, settings.tolerance, shortest_prefix(line, constraints), len(line))
    hunt = _Hunt(device, line, model, goal, settings)
    found = hunt.run()
    if found is None:
        raise _unreachable(budget, hunt.trials[-1], constraints)
    n, check = found
    return LatencyPlan(
        plan=hunt.plan(n),
        lost=line.lost(n),
        lost_at_target=line.lost(_at_target(line, model, n, target - worst(check).ratio)),
        budget=budget,
        target=target,
        check=check,
        control=control,
        trials=tuple(hunt.trials),
        times=times,
        facts=device.facts(),
        warnings=(
            *_noise(control, settings),
            *_missed(check, target, budget),
            *_overdone(worst(check).ratio, goal, n, settings),
        ),
    )


def _at_target(line: Line, model: LatencyModel, n: int, room: float) -> int:
    """How many steps would use up the room that a plan of ``n`` leaves below its target."""
    wanted = model.ratio(line.widths(n)) + room
    return first_that(lambda m: model.ratio(line.widths(m)) <= wanted, 0, len(line)) if n else 0


class _Hunt:
    """One search with its measurements."""

    def __init__(
        self,
        device: Device,
        line: Line,
        model: LatencyModel,
        goal: Goal,
        settings: SearchSettings,
    ) -> None:
        self.trials: list[Trial] = []
        self._device, self._line, self._model = device, line, model
        self._goal, self._settings = goal, settings
        self._search = PrefixSearch(goal, lambda n: model.ratio(line.widths(n)))
        self._plans: dict[int, Plan] = {}

    def plan(self, n: int) -> Plan:
        """The same object each time, so that the device knows what it has exported."""
        if n not in self._plans:
            self._plans[n] = plan_prefix(self._line, n)
        return self._plans[n]

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
            check = self._device.measure(self.plan(n), settings.thorough)
            found = worst(check)
            in_reach = found.low <= goal.target <= found.ratio + settings.reach
            if not in_reach:
                self._search.correct(n, found.ratio)
            if in_reach or not self._left or self._search.next(self._left) is None:
                return n, check

    @property
    def _left(self) -> int:
        return self._settings.max_trials - len(self.trials)

    def _try(self, n: int) -> Ratios:
        ratios = self._device.measure(self.plan(n), self._settings.quick)
        estimate = self._model.ratio(self._line.widths(n))
        self.trials.append(Trial(self.plan(n), self._line.lost(n), estimate, ratios))
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
        f" {own.ratio:.3f} ({own.low:.3f} to {own.high:.3f})"
        for size, own in control.items()
        if not own.low <= 1 <= own.high or own.high - own.low > 2 * settings.tolerance
    )


def _missed(check: Ratios, target: float, budget: LatencyBudget) -> tuple[str, ...]:
    return tuple(
        f"the latency budget of {budget} at batch size {size} is missed: the last check measures"
        f" {100 * own.ratio:.1f}% ({100 * own.low:.1f} to {100 * own.high:.1f}), above"
        f" {100 * target:.1f}%"
        for size, own in check.items()
        if own.low > target
    )


def _overdone(ratio: float, goal: Goal, n: int, settings: SearchSettings) -> tuple[str, ...]:
    if ratio >= goal.target - settings.reach or n <= goal.start:
        return ()
    return (
        f"the plan measures {100 * ratio:.1f}%, further below {100 * goal.target:.1f}% than need"
        f" be: the steps are coarse, or {settings.max_trials} trials were too few",
    )
