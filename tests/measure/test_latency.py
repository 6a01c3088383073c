from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nnslim.errors import ConfigError
from nnslim.measure.latency import Latency, measure_latency
from nnslim.settings.eval import LatencySettings


class World:
    """A clock that stands still but for what the candidates take, in milliseconds."""

    def __init__(self):
        self.now_ns = 0
        self.calls = []

    def clock(self):
        return self.now_ns

    def candidate(self, name, times_ms):
        times = iter(times_ms)

        def run():
            self.calls.append(name)
            self.now_ns += round(next(times) * 1e6)

        return run


def forever(*times):
    yield from times[:-1]
    while True:
        yield times[-1]


def test_cold_start_and_warm_up_are_in_no_statistic():
    world = World()
    run = world.candidate("a", forever(900, *[50] * 3, 2, 4, 6, 8, 10, 3))
    settings = LatencySettings(
        warmup_runs=3, warmup_s=0, rounds=5, calls_per_round=1, min_s=0, max_s=9
    )
    (found,) = measure_latency([run], settings, world.clock)
    assert found.cold_start_ms == 900
    assert found.rounds_ms == ((2,), (4,), (6,), (8,), (10,))
    assert (found.median_ms, found.min_ms, found.n) == (6, 2, 5)
    assert found.p90_ms == pytest.approx(9.2)
    assert found.to_json()["n_rounds"] == 5


@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
def test_candidates_take_turns_in_abba_order_and_none_has_a_place_of_its_own(names):
    world = World()
    runs = [world.candidate(name, forever(1)) for name in names]
    n = len(names)
    settings = LatencySettings(
        warmup_runs=0, warmup_s=0, block_s=0, rounds=2 * n, calls_per_round=2, min_s=0
    )
    found = measure_latency(runs, settings, world.clock)
    calls = "".join(world.calls)
    assert calls[:n] == names
    turns = calls[n::2]
    assert turns == calls[n + 1 :: 2]
    rounds = [turns[i : i + n] for i in range(0, len(turns), n)]
    assert all(rounds[i] == rounds[i + 1][::-1] for i in range(0, 2 * n, 2))
    assert rounds[0] == names
    for place in range(n):
        assert Counter(own[place] for own in rounds) == dict.fromkeys(names, 2)
    follows_itself = [a for a, b in zip(turns, turns[1:] + turns[0], strict=True) if a == b]
    assert max(Counter(follows_itself).values()) == min(Counter(follows_itself).values())
    assert set(follows_itself) == set(names)
    assert [latency.n for latency in found] == [4 * n] * n


def test_turns_cancel_a_drift_that_one_after_another_would_measure():
    """A machine that slows down by 1 % per call, two equal candidates."""
    world = World()
    speed = iter(1.01**i for i in range(10_000))

    def run():
        world.now_ns += round(next(speed) * 1e6)

    settings = LatencySettings(
        warmup_runs=0, warmup_s=0, block_s=0, rounds=40, calls_per_round=2, min_s=0, max_s=99
    )
    a, b = measure_latency([run, run], settings, world.clock)
    assert b.median_ms / a.median_ms == pytest.approx(1, abs=0.03)
    samples = np.array([1.01**i for i in range(160)])
    assert np.median(samples[80:]) / np.median(samples[:80]) > 2


def test_warm_up_lasts_runs_and_seconds_but_not_beyond_the_cap():
    def warmed(ms, **kwargs):
        world = World()
        run = world.candidate("a", forever(ms))
        settings = LatencySettings(rounds=1, calls_per_round=1, min_s=0, max_s=0, **kwargs)
        measure_latency([run], settings, world.clock)
        return len(world.calls) - 2  # cold start and the only round

    assert warmed(100, warmup_runs=10, warmup_s=0.5) == 10
    assert warmed(10, warmup_runs=10, warmup_s=0.5) == 50
    assert warmed(2000, warmup_runs=10, warmup_s=0.5, warmup_cap_s=5) == 3
    assert warmed(10_000, warmup_runs=10, warmup_s=0.5, warmup_cap_s=5) == 1


def test_warm_up_goes_on_until_three_blocks_agree_and_says_so():
    def warmed(*times, **kwargs):
        world = World()
        run = world.candidate("a", forever(99, *times))
        settings = LatencySettings(
            warmup_runs=2, warmup_s=0.01, rounds=1, calls_per_round=1, min_s=0, max_s=0, **kwargs
        )
        (found,) = measure_latency([run], settings, world.clock)
        return len(world.calls) - 1 - found.n, found.settled

    assert warmed(20) == (3, True)
    assert warmed(60, 40, 30, 25, 20.0, 20.3, 20.1, 20.1) == (7, True)
    assert warmed(60, 40, 30, 25, 20.0, 20.3, 20.1, 20.1, settled=0.7) == (4, True)
    assert warmed(*[20, 30] * 400, warmup_cap_s=1) == (40, False)
    # Blocks are of 10 ms: one slow call of five in each does not unsettle their medians.
    assert warmed(*[2, 2, 4, 2, 2] * 9) == (13, True)


def test_where_one_never_settles_the_others_do_not_wait_for_it():
    world = World()
    runs = [world.candidate(name, forever(*[20, 30] * 400)) for name in "ab"]
    settings = LatencySettings(
        warmup_runs=1, warmup_s=0.5, warmup_cap_s=5, rounds=1, calls_per_round=1, min_s=0, max_s=0
    )
    found = measure_latency(runs, settings, world.clock)
    assert [world.calls.count(name) for name in "ab"] == [1 + 200 + 1, 1 + 20 + 1]
    assert [own.settled for own in found] == [False, False]


def test_a_turn_is_long_enough_for_the_clock_by_calls_that_nobody_disturbed():
    world = World()
    slow = world.candidate("s", forever(90, *[3, 40, 40] * 5000))
    quick = world.candidate("q", forever(90, *[2.5, 40, 40] * 5000))
    settings = LatencySettings(warmup_cap_s=1, calls_per_round=1, rounds=2, min_s=0)
    found = measure_latency([slow, quick], settings, world.clock)
    assert [[len(calls) for calls in own.rounds_ms] for own in found] == [[4, 4], [4, 4]]


def test_99th_percentile_takes_a_thousand_calls():
    times = tuple(float(i) for i in range(1000))
    assert Latency(1.0, (times[:999],)).p99_ms is None
    assert Latency(1.0, (times[:500], times[500:])).p99_ms == pytest.approx(989.01)
    assert Latency(1.0, (times[:999],)).to_json()["p99_ms"] is None


def test_cov_is_the_spread_as_a_share_of_the_mean():
    assert Latency(1.0, ((1.0, 3.0), (1.0, 3.0))).cov == pytest.approx(0.5)
    assert Latency(1.0, ((2.0,),)).cov == 0


@pytest.mark.parametrize(("ms", "rounds"), [(1, 200), (30, 20), (500, 4), (30_000, 1)])
def test_measures_long_enough_and_not_too_long(ms, rounds):
    world = World()
    runs = [world.candidate(name, forever(ms)) for name in "ab"]
    settings = LatencySettings(warmup_s=0, warmup_runs=0, block_s=0)  # 20 rounds of 5, 1 s to 10 s
    found = measure_latency(runs, settings, world.clock)
    assert [len(latency.rounds_ms) for latency in found] == [rounds, rounds]


def test_nothing_to_measure_and_settings_that_measure_nothing():
    assert measure_latency([]) == ()
    for wrong in ({"rounds": 0}, {"calls_per_round": 0}, {"max_s": -1}, {"warmup_runs": -1}):
        with pytest.raises(ConfigError):
            LatencySettings(**wrong)


def test_real_clock_is_in_milliseconds():
    import time

    settings = LatencySettings(
        warmup_runs=0, warmup_s=0, rounds=2, calls_per_round=1, min_s=0, max_s=9
    )
    (found,) = measure_latency([lambda: time.sleep(0.02)], settings)
    assert 19 < found.min_ms < 500
    assert isinstance(found, Latency)
