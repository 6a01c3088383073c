"""Paired latency ratios: a fake clock for the order of things, simulations for the statistics."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from nnslim.errors import ConfigError
from nnslim.measure.latency import Latency
from nnslim.measure.paired import measure_ratios
from nnslim.measure.ratio import log_ratios, paired_ratio
from nnslim.settings.eval import PairedSettings


def measure_ratio(*arguments):
    return measure_ratios(*arguments)[0]


class World:
    """A clock that stands still but for what runs take, in milliseconds; slower by the call."""

    def __init__(self, drift=1.0):
        self.now_ns = 0.0
        self.calls = []
        self.speed, self.drift = 1.0, drift
        self.opened = 0

    def clock(self):
        return round(self.now_ns)

    def run(self, name, ms):
        def call():
            self.calls.append(name)
            self.speed *= self.drift
            self.now_ns += ms * self.speed * 1e6

        return call

    def pair(self, parent_ms, candidate_ms):
        def opened():
            self.opened += 1
            return self.run("p", parent_ms), self.run("c", candidate_ms)

        return opened


QUICK = PairedSettings(
    pairs=3, max_pairs=5, rounds=4, least_rounds=1, min_s=0, block_s=0, warmup_s=0, warmup_runs=0
)


def test_the_ratio_is_the_candidates_share_of_the_parents_time():
    world = World()
    found = measure_ratio(world.pair(40, 10), QUICK, world.clock)
    assert found.ratio == pytest.approx(0.25)
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))
    assert (found.parent_ms, found.candidate_ms) == (40, 10)
    assert (found.n_pairs, found.n_rounds) == (3, 12)
    assert json.loads(json.dumps(found.to_json()))["n_session_pairs"] == 3


def test_sessions_are_fresh_and_each_goes_first_in_turn():
    world = World()
    measure_ratio(world.pair(1, 1), QUICK, world.clock)
    assert world.opened == 3
    per_pair = len(world.calls) // 3
    orders = ["".join(world.calls[i * per_pair : (i + 1) * per_pair]) for i in range(3)]
    # one cold call each, then ABBA and BAAB
    assert orders[0] == "pc" + "pccp" + "cppc"
    assert orders[1] == "cp" + "cppc" + "pccp"
    assert orders[2] == orders[0]


def test_a_turn_is_long_enough_for_the_clock():
    world = World()
    settings = replace(QUICK, pairs=1, max_pairs=1, rounds=2, block_s=0.02)
    found = measure_ratio(world.pair(8, 3), settings, world.clock)
    assert found.n_rounds == 2
    assert "".join(world.calls[2:]) == "p" * 7 + "c" * 7 + "c" * 7 + "p" * 7  # 7 * 3 ms > 20 ms


def test_a_machine_that_slows_down_does_not_change_the_ratio():
    world = World(drift=1.01)
    found = measure_ratio(world.pair(10, 6), QUICK, world.clock)
    assert found.ratio == pytest.approx(0.6, rel=0.005)
    assert world.speed > 1.2


def test_more_pairs_until_the_interval_is_narrow_and_no_further():
    steady, unsteady = World(), World()
    times = iter(np.exp(np.random.default_rng(0).normal(0, 0.3, 10_000)) * 10)

    def opened():
        unsteady.opened += 1
        return unsteady.run("p", 10), unsteady.run("c", float(next(times)))

    assert measure_ratio(steady.pair(10, 10), QUICK, steady.clock).n_pairs == 3
    assert measure_ratio(opened, QUICK, unsteady.clock).n_pairs == 5


@pytest.mark.parametrize("budget_s", [0.001, 0.9, 2.3, 99])
def test_a_spent_budget_stops_but_not_below_three_pairs(budget_s):
    world = World()
    shares = iter([0.5, 1.5] * 10)  # so that no interval is narrow

    def opened():
        share = next(shares)
        return world.run("p", 10 * share), world.run("c", 10 * (2 - share))

    settings = replace(QUICK, pairs=5, max_pairs=20, rounds=10, budget_s=budget_s, max_s=0.1)
    found = measure_ratio(opened, settings, world.clock)
    assert found.stop == ("pairs" if budget_s == 99 else "budget")
    assert found.seconds == pytest.approx(world.now_ns / 1e9, rel=1e-6)
    if budget_s == 0.001:
        assert found.n_pairs == 3
    elif budget_s == 99:
        assert found.n_pairs == 20
    else:
        assert 0.7 * budget_s < found.seconds <= budget_s
        assert found.n_pairs >= 5


def test_a_difference_however_sure_does_not_stop_what_must_be_measured():
    world = World()
    found = measure_ratio(world.pair(10, 30), PairedSettings(), world.clock)
    assert found.stop == "width"
    assert found.n_pairs == 5
    assert found.n_rounds >= 20
    assert found.seconds >= 3
    timed = sum(latency.samples_ms.sum() for pair in found.sessions for latency in pair)
    assert timed >= 3000


def test_more_rounds_where_rounds_are_unsure():
    world = World()
    times = iter(np.exp(np.random.default_rng(0).normal(0, 0.05, 100_000)) * 10)

    def noisy():
        world.now_ns += float(next(times)) * 1e6

    def opened():
        return world.run("p", 10), noisy

    found = measure_ratio(opened, replace(QUICK, pairs=5, max_pairs=5), world.clock)
    first, *others = [len(parent.rounds_ms) for parent, _ in found.sessions]
    assert first == QUICK.rounds
    # 1.25 times 5 % over the square root of n is 1 % for 39 rounds; four rounds guess it roughly.
    assert 10 < np.median(others) < 150


def test_a_control_in_the_same_rounds_sees_what_the_candidate_sees():
    """Every session of the third place is 10 % slower than the baseline that it is."""
    world = World()
    found = measure_ratios(
        lambda: (world.run("p", 10), world.run("c", 8), world.run("a", 11)), QUICK, world.clock
    )
    assert [own.ratio for own in found] == pytest.approx([0.8, 1.1])
    assert [own.n_rounds for own in found] == [12, 12]
    assert world.calls[:9] == [*"pca", *"pca", *"acp"]
    parents = [[pair[0] for pair in own.sessions] for own in found]
    assert parents[0] == parents[1]  # one session of the parent for both


def latencies(log_ratio: np.ndarray) -> tuple[Latency, Latency]:
    """A parent of 10 ms per call, and a candidate with these ratios round by round."""
    parent = Latency(0.0, tuple((10.0, 10.0) for _ in log_ratio))
    return parent, Latency(0.0, tuple((10.0 * math.exp(r), 10.0 * math.exp(r)) for r in log_ratio))


def test_log_ratios_are_of_the_fastest_calls_of_each_round():
    parent = Latency(0.0, ((1.0, 9.0, 2.0), (4.0,)))
    candidate = Latency(0.0, ((4.0, 2.0, 3.0), (2.0,)))
    assert log_ratios(parent, candidate) == pytest.approx([math.log(2), -math.log(2)])


def simulated(rng, n_pairs, n_rounds, between, within):
    """True ratio 1: every pair has its own luck, rounds have heavy tails."""
    return [
        latencies(rng.normal(0, between) + rng.standard_t(3, n_rounds) * within / math.sqrt(3))
        for _ in range(n_pairs)
    ]


@pytest.mark.parametrize(
    ("n_pairs", "between", "within"), [(5, 0.01, 0.02), (5, 0.02, 0.005), (3, 0.0, 0.02)]
)
def test_a_against_a_is_covered_by_the_interval(n_pairs, between, within):
    """Of 150 comparisons of equals, about 19 of 20 intervals hold 1 (0.95 less two s.d.: 0.92)."""
    rng = np.random.default_rng(n_pairs)
    found = [
        paired_ratio(simulated(rng, n_pairs, 6, between, within), draws=200, seed=i)
        for i in range(150)
    ]
    covered = np.mean([own.low <= 1 <= own.high for own in found])
    assert covered >= 0.92
    widths = [own.high - own.low for own in found]
    assert 0.5 * between < np.mean(widths) < 8 * max(between, 0.02)


def test_an_interval_that_ignores_the_pairs_own_luck_would_not_cover():
    """The same data as one long pair: the test above can fail."""
    rng = np.random.default_rng(5)
    covered = 0
    for i in range(100):
        pairs = simulated(rng, 5, 6, 0.02, 0.01)
        rounds = np.concatenate([log_ratios(*pair) for pair in pairs])
        own = paired_ratio([latencies(rounds)], draws=300, seed=i)
        covered += own.low <= 1 <= own.high
    assert covered < 85


def test_a_seed_gives_one_interval_and_another_seed_another():
    pairs = simulated(np.random.default_rng(0), 5, 6, 0.02, 0.02)
    first, again, other = (paired_ratio(pairs, 200, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.ratio == other.ratio
    assert first != other


def test_pairs_with_different_numbers_of_rounds():
    pairs = [latencies(np.full(n, math.log(0.5))) for n in (2, 5, 3)]
    found = paired_ratio(pairs, 100)
    assert found.ratio == pytest.approx(0.5)
    assert found.n_rounds == 10


@pytest.mark.parametrize(
    "wrong", [{"pairs": 0}, {"rounds": 0}, {"pairs": 6, "max_pairs": 5}, {"block_s": -1.0}]
)
def test_settings_that_measure_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        PairedSettings(**wrong)
