"""A file against its baseline: intervals that keep their promise, and exact tests."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnslim.errors import InputError
from nnslim.measure.accuracy import Accuracy
from nnslim.measure.comparison import accuracy_drop

CLASSES = ("a", "b")


def measured(correct: np.ndarray) -> Accuracy:
    return Accuracy(100 * float(correct.mean()), None, len(correct), None, 0, correct)


def drop_of(baseline: np.ndarray, own: np.ndarray):
    labels = np.arange(len(own)) % 2
    return accuracy_drop(measured(baseline), measured(own), labels, CLASSES)


def test_equal_files_lose_nothing_and_the_interval_is_narrow():
    correct = np.arange(1000) % 10 > 0
    found = drop_of(correct, correct)
    assert (found.drop_pp, found.lost, found.won, found.p_value) == (0, 0, 0, 1)
    assert found.low <= 0 <= found.high < 1


def test_counts_and_the_class_that_loses_most():
    baseline = np.ones(100, bool)
    own = baseline.copy()
    own[[1, 3, 5, 0]] = False  # three of class b, one of a
    found = drop_of(baseline, own)
    assert (found.drop_pp, found.lost, found.won) == (4, 4, 0)
    assert (found.worst_class, found.worst_class_drop_pp) == ("b", 6)
    assert found.p_value == 2 * 0.5**4
    assert found.low < 4 < found.high


def test_mcnemar_is_the_binomial():
    baseline = np.zeros(40, bool)
    own = np.zeros(40, bool)
    baseline[:9], own[9:12] = True, True
    wanted = 2 * sum(math.comb(12, k) for k in range(4)) / 2**12
    assert drop_of(baseline, own).p_value == pytest.approx(wanted)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    """Simulated pairs of files with known accuracies that share their hard images."""
    generator = np.random.default_rng(0)
    n, repeats, held = 500, 1000, 0
    hard, noise = generator.random(4_000_000), 0.05 * generator.standard_normal(4_000_000)
    truth = 100 * float((hard + noise < 0.9).mean() - (hard + noise < 0.88).mean())
    for _ in range(repeats):
        hard = generator.random(n)
        baseline = hard + 0.05 * generator.standard_normal(n) < 0.9
        own = hard + 0.05 * generator.standard_normal(n) < 0.88
        found = drop_of(baseline, own)
        held += found.low <= truth <= found.high
    assert held / repeats > 0.94


def test_other_images_are_refused():
    with pytest.raises(InputError):
        accuracy_drop(
            measured(np.ones(3, bool)), measured(np.ones(4, bool)), np.zeros(4, int), CLASSES
        )
