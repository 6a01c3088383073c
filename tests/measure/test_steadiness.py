from __future__ import annotations

import os

import numpy as np
import pytest

from nnslim.measure import steadiness
from nnslim.measure.latency import Latency
from nnslim.measure.ratio import PairedRatio
from nnslim.measure.steadiness import (
    busy_cores,
    machine_warnings,
    ratio_warnings,
    unsteadiness,
)

NOISE = np.random.default_rng(0).normal(0, 1, 40)


def latency(times, settled=True):
    return Latency(1.0, tuple((float(t), float(t)) for t in times), settled)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (10 + 0.1 * NOISE, []),
        (10 + 0.5 * NOISE, ["vary by"]),
        ([16, *(10 + 0.01 * NOISE)], ["vary by", "first round took 1.6 times"]),
        (10 + 0.01 * np.arange(40), ["slower"]),
        (10 - 0.01 * np.arange(40), ["faster"]),
        (10 + 0.01 * np.arange(6), []),  # too few rounds to tell
        ([10.0] * 40, []),
    ],
)
def test_times_that_are_no_one_number_say_why(times, words):
    said = unsteadiness(latency(times))
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))


def test_times_that_never_settled():
    assert unsteadiness(latency([10.0] * 4, settled=False)) == (
        "they still changed when the warm-up had to end",
    )


def test_noise_alone_is_called_a_drift_at_most_once_in_five_hundred():
    rng = np.random.default_rng(1)
    called = sum(bool(unsteadiness(latency(10 + 0.01 * rng.normal(size=20)))) for _ in range(1000))
    assert called <= 6


def test_rank_correlation_with_ties_by_hand():
    # Ranks 1.5, 1.5, 3, 4 of places 1, 2, 3, 4: covariance 4.5 / sqrt(4.5 * 5).
    assert steadiness._rank_correlation(np.array([1.0, 1.0, 2.0, 9.0])) == pytest.approx(
        0.9487, 1e-3
    )


def test_a_wide_interval_after_a_spent_budget():
    def ratio(stop, low):
        return PairedRatio(1.0, low, 2 - low, 1.0, 1.0, 5, 40, stop, 61.0)

    assert "10.0 % wide to each side after 61 s" in ratio_warnings(ratio("budget", 0.9), 0.01)[0]
    assert ratio_warnings(ratio("budget", 0.995), 0.01) == ()
    assert ratio_warnings(ratio("width", 0.9), 0.01) == ()
    assert ratio_warnings(ratio(None, 0.9), 0.01) == ()


def test_a_busy_machine_and_cores_that_are_not_ours(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (4.5, 0, 0), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    busy, fewer = machine_warnings()
    assert "a load of 4.5 on 4 cores" in busy
    assert "2 of 4 cores" in fewer
    monkeypatch.setattr(os, "getloadavg", lambda: (4.0, 0, 0), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert machine_warnings() == ()


def test_busy_cores_are_counted_among_ours_while_we_sleep(tmp_path, monkeypatch):
    """Core 0 works half of the time, core 1 waits for a disk, core 2 works but is not ours."""
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu 1 1 1 1 1 1 1 1\ncpu0 10 0 0 50 5 0 0 0 0 0\n"
        "cpu1 9 9 9 9 9 9 9 9\ncpu2 1 0 0 7 0 0 0 0\nintr 5"
    )

    def later(seconds):
        assert seconds == 0.25
        stat.write_text(
            "cpu 1 1 1 1 1 1 1 1\ncpu0 20 20 10 80 15 0 0 0 0 0\n"
            "cpu1 9 9 9 9 109 9 9 9\ncpu2 101 0 0 7 0 0 0 0\nintr 5"
        )

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(steadiness.time, "sleep", later)
    assert busy_cores(0.25, stat) == pytest.approx(0.5)


def test_no_counters_no_answer(tmp_path):
    assert busy_cores(0.0, tmp_path / "none") is None
    for text in ("cpu0 a b c d e", "cpu0 1 2", ""):
        (tmp_path / "odd").write_text(text)
        assert busy_cores(0.0, tmp_path / "odd") is None
