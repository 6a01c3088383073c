"""The whole measurement on simulated machines: how often does the gate fail a file that is equal?

Machines drift (an AR(1) state that both files share), calls are jittery and now and then caught by
somebody else's work, and each session has its own luck that no number of rounds averages out.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nnslim.measure.comparison import latency_ratio
from nnslim.measure.ratio import LatencyRatio
from nnslim.measure.results import Comparison
from nnslim.settings.eval import Gates, PairedSettings
from tests.measure.test_gates import RESULT, statuses


class Machine:
    """A clock that only runs move: each takes about 4 ms, the candidate ``ratio`` times that."""

    def __init__(self, seed, session=0.005, drift=0.1, jitter=0.03, spikes=0.05):
        self.rng = np.random.default_rng(seed)
        self.session, self.drift, self.jitter, self.spikes = session, drift, jitter, spikes
        self.now, self.state, self.at = 0, 0.0, 0
        self.noise = np.empty((0, 3))

    def clock(self):
        return self.now

    def open(self, ratio=1.0):
        ms = 4 * ratio * math.exp(self.rng.normal(0, self.session))

        def run():
            if self.at == len(self.noise):
                self.noise = np.column_stack(
                    [self.rng.normal(size=(4096, 2)), self.rng.random(4096)]
                ).tolist()
                self.at = 0
            change, shake, luck = self.noise[self.at]
            self.at += 1
            self.state = 0.99 * self.state + math.sqrt(1 - 0.99**2) * self.drift * change
            slow = 3.0 if luck < self.spikes else 1.0
            self.now += int(ms * slow * math.exp(self.state + self.jitter * shake) * 1e6)

        return run


SETTINGS = PairedSettings(draws=400, warmup_s=0.1, warmup_runs=4)
MACHINES = {
    "mixed": {},
    "sessions": {"session": 0.01, "jitter": 0.005},
    "calls": {"session": 0.0, "jitter": 0.05, "spikes": 0.2},
}


def measured(n: int, settings=SETTINGS, ratio=1.0, **machine) -> list[LatencyRatio]:
    found = []
    for seed in range(n):
        world = Machine(seed, **machine)
        found.append(
            latency_ratio(world.open, lambda w=world: w.open(ratio), settings, clock_ns=world.clock)
        )
    return found


def failed(found: list[LatencyRatio], limit: float) -> float:
    """Share that the gate itself fails."""
    limits = Gates(max_latency_ratio=limit)
    files = [replace(RESULT, against=Comparison(None, {1: own}, 1, 1, 1)) for own in found]
    return float(np.mean([statuses(limits, file)[0][2] == "fail" for file in files]))


def above(found: list[LatencyRatio], limit: float) -> float:
    return float(np.mean([own.ratio.low > limit for own in found]))


def covered(found: list[LatencyRatio], truth: float = 1.0) -> float:
    return float(np.mean([own.ratio.low <= truth <= own.ratio.high for own in found]))


def at_least(share: float, n: int) -> float:
    """What so many trials of this probability give, less two standard deviations."""
    return share - 2 * math.sqrt(share * (1 - share) / n)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("machine", "n"), [("mixed", 2000), ("sessions", 500), ("calls", 500)])
def test_comparisons_of_equals_fail_no_more_often_than_they_may(machine, n):
    """The lower end of a 95 % interval is above the truth in at most 2.5 %."""
    found = measured(n, **MACHINES[machine])
    assert above(found, 1.0) <= 0.025
    assert failed(found, 1.0) <= 0.025
    assert failed(found, 1.05) == 0
    assert covered(found) >= 0.95
    assert np.mean([own.control.low <= 1 <= own.control.high for own in found]) >= 0.95


@pytest.mark.parametrize("machine", MACHINES)
def test_a_few_comparisons_of_equals(machine):
    found = measured(30, **MACHINES[machine])
    assert failed(found, 1.05) == 0
    assert covered(found) >= at_least(0.95, 30)
    assert 0.002 < np.median([own.ratio.half_width for own in found]) < 0.02


def test_what_is_ten_percent_slower_fails_at_five():
    found = measured(30, ratio=1.10)
    assert failed(found, 1.05) >= 0.9
    assert covered(found, 1.10) >= at_least(0.95, 30)


def test_without_turns_the_same_machine_would_fail_equals():
    """Two medians, one after the other, as benchmarks do it: the drift is what they compare."""
    wrong = 0
    for seed in range(40):
        world = Machine(seed)
        medians = []
        for run in (world.open(), world.open()):
            times = []
            for _ in range(100):
                start = world.now
                run()
                times.append(world.now - start)
            medians.append(np.median(times))
        wrong += medians[1] / medians[0] > 1.05
    assert wrong >= 4
