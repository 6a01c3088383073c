"""A file against its baseline: intervals that keep their promise, and exact tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnslim.errors import InputError
from nnslim.measure.accuracy import Accuracy, top_k_accuracy
from nnslim.measure.drop import accuracy_drop, find_changes

CLASSES = ("a", "b")


def measured(correct: np.ndarray) -> Accuracy:
    labels = np.arange(len(correct)) % 2
    predicted = np.where(correct, labels, 1 - labels)
    return Accuracy(100 * float(correct.mean()), None, len(correct), None, 0, correct, predicted)


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


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 60))
def test_changes_count_what_a_loop_counts(seed: int, n_classes: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, n_classes, n)
    logits = [generator.standard_normal((n, n_classes)) for _ in range(2)]
    logits[1][generator.random(n) < 0.2] = np.nan
    one, two = (top_k_accuracy([(own, labels)], n_classes) for own in logits)
    names = tuple(f"class {i}" for i in range(n_classes))
    found = find_changes(one, two, labels, names)
    moves: dict[tuple[str, str, str], int] = {}
    same = 0
    for i in range(n):
        nan = bool(np.isnan(logits[1][i]).any())
        a = names[int(np.argmax(logits[0][i]))]
        b = "(not finite)" if nan else names[int(np.argmax(logits[1][i]))]
        same += a == b
        if a != b:
            key = (names[labels[i]], a, b)
            moves[key] = moves.get(key, 0) + 1
    assert {(m.label, m.baseline, m.own): m.n for m in found.moves} == moves
    assert [m.n for m in found.moves] == sorted(moves.values(), reverse=True)
    assert found.agreement_pct == pytest.approx(100 * same / n)
    assert sum(own.n for own in found.per_class) == n
    assert sum(own.n * own.own_pct for own in found.per_class) == pytest.approx(n * two.top1_pct)
