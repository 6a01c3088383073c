"""Medians of medians: against brute force, and against the truth in many small experiments."""

from __future__ import annotations

import numpy as np
import pytest

from nnslim.measure.ratio import median_of_medians


def brute_force(sessions, draws, seed):
    """Draw sessions, then the rounds of each, with replacement."""
    rng = np.random.default_rng(seed)
    n = len(sessions)
    medians = np.stack(
        [np.median(rng.choice(own, (draws * n, len(own))), axis=1) for own in sessions]
    )
    chosen = rng.integers(0, n, (n, draws))
    drawn = medians[chosen, np.arange(draws * n).reshape(n, draws)]
    return np.percentile(np.median(drawn, axis=0), (2.5, 97.5))


@pytest.mark.parametrize("counts", [(1,), (2,), (7,), (8,), (40,)])
def test_one_session_has_the_bootstrap_interval_of_its_rounds(counts):
    rng = np.random.default_rng(counts[0])
    sessions = [rng.normal(size=n) for n in counts]
    centre, low, high = median_of_medians(sessions, 20_000)
    assert centre == np.median(sessions[0])
    expected = brute_force(sessions, 20_000, 1)
    assert (low, high) == pytest.approx(tuple(expected), abs=0.12)


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_sessions_and_rounds_are_both_drawn_where_rounds_are_what_varies(spread):
    rng = np.random.default_rng(3)
    sessions = [rng.normal(0, spread) + rng.normal(size=n) for n in (5, 8, 9, 12, 6, 7, 8, 9, 5)]
    _, low, high = median_of_medians(sessions, 20_000)
    expected = brute_force(sessions, 20_000, 1)
    assert low <= expected[0] + 0.03
    assert high >= expected[1] - 0.03
    assert high - low < 1.5 * (expected[1] - expected[0])


def test_few_sessions_get_students_t():
    sessions = [np.full(4, value) for value in (0.0, 1.0, 2.0)]
    centre, low, high = median_of_medians(sessions)
    # Standard deviation 1, three sessions, 4.303 standard errors of 1 / sqrt(3).
    assert (centre, low, high) == pytest.approx((1, 1 - 2.4843, 1 + 2.4843), abs=1e-3)


@pytest.mark.parametrize("n", [2, 5, 11, 12, 25, 60])
def test_quantiles_of_student_against_simulation(n):
    """A t interval of normal values holds the truth 19 times out of 20; the mean is the centre."""
    from nnslim.measure.ratio import _student

    rng = np.random.default_rng(n)
    x = rng.normal(size=(200_000, n))
    t = np.sqrt(n) * x.mean(1) / x.std(1, ddof=1)
    assert np.mean(np.abs(t) <= _student(n - 1)) == pytest.approx(0.95, abs=0.002)


@pytest.mark.parametrize("n", [3, 5, 9])
@pytest.mark.parametrize(("between", "within"), [(1.0, 0.0), (1.0, 2.0), (0.1, 2.0)])
def test_the_truth_is_held_19_times_out_of_20(n, between, within):
    rng = np.random.default_rng(n)
    held = 0
    for seed in range(200):
        luck = rng.normal(0, between, n)
        sessions = [own + within * rng.standard_t(3, 8) / np.sqrt(3) for own in luck]
        _, low, high = median_of_medians(sessions, 300, seed)
        held += low <= 0 <= high
    assert held / 200 >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 200)


def test_same_seed_same_interval():
    sessions = [np.random.default_rng(0).normal(size=200)]
    first, again, other = (median_of_medians(sessions, 500, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
