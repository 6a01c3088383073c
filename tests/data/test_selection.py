"""Laws of the stratified choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnslim.data import stratified_indices
from nnslim.errors import InputError

labels_and_count = st.lists(st.integers(0, 6), min_size=1, max_size=80).flatmap(
    lambda labels: st.tuples(st.just(np.array(labels)), st.integers(1, len(labels)))
)


@given(labels_and_count, st.integers(0, 5))
def test_chooses_exactly_count_and_each_class_within_one_of_its_share(drawn, seed):
    labels, count = drawn
    chosen = stratified_indices(labels, count, seed=seed)
    assert len(chosen) == len(set(chosen.tolist())) == count
    assert chosen.tolist() == sorted(chosen.tolist())
    for label in set(labels.tolist()):
        share = count * np.sum(labels == label) / len(labels)
        assert abs(np.sum(labels[chosen] == label) - share) < 1


@given(labels_and_count)
def test_leave_keeps_samples_of_every_class(drawn):
    labels, count = drawn
    chosen = stratified_indices(labels, count, seed=0, leave=1)
    assert set(np.delete(labels, chosen)) == set(labels)
    spare = len(labels) - len(set(labels.tolist()))
    assert len(chosen) == min(count, spare)


def test_the_seed_decides_who_is_chosen():
    labels = np.arange(200) % 10
    one, same, other = (stratified_indices(labels, 50, seed=s) for s in (0, 0, 1))
    assert one.tolist() == same.tolist() != other.tolist()


def test_equal_remainders_do_not_favour_the_first_classes():
    labels = np.arange(100) % 10
    picked = {int(labels[stratified_indices(labels, 1, seed=s)[0]]) for s in range(60)}
    assert len(picked) > 5


@pytest.mark.parametrize("count", [0, -1, 11])
def test_impossible_counts_are_refused_with_both_numbers(count):
    with pytest.raises(InputError, match=f"{count} of 10"):
        stratified_indices(np.zeros(10, np.int64), count, seed=0)
