"""Connected components, against the textbook's union-find."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnslim.channels.labels import connected_components


def naive(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Merge one pair at a time, then number the components by their smallest label."""
    owner = list(range(n))
    for a, b in pairs:
        old, new = owner[a], owner[b]
        owner = [new if x == old else x for x in owner]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(x, len(numbers)) for x in owner]


@st.composite
def ties(draw):
    n = draw(st.integers(1, 40))
    label = st.integers(0, n - 1)
    return n, draw(st.lists(st.tuples(label, label), max_size=60))


@given(ties())
def test_components_equal_those_of_union_find(case):
    n, pairs = case
    left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found = connected_components(n, left, right)
    assert found.dtype == np.int64
    assert found.tolist() == naive(n, pairs)


@given(ties())
def test_the_order_of_the_pairs_does_not_matter(case):
    n, pairs = case
    left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    swapped = connected_components(n, right[::-1].copy(), left[::-1].copy())
    assert swapped.tolist() == connected_components(n, left, right).tolist()


def test_long_chains_in_the_worst_order():
    n = 5000
    chain = np.random.default_rng(0).permutation(n)
    assert connected_components(n, chain[:-1], chain[1:]).max() == 0
    down = np.arange(n - 1, dtype=np.int64)
    assert connected_components(n, down + 1, down).max() == 0


def test_no_labels_and_no_ties():
    none = np.zeros(0, dtype=np.int64)
    assert connected_components(0, none, none).tolist() == []
    assert connected_components(3, none, none).tolist() == [0, 1, 2]


def test_the_inputs_are_left_alone():
    left, right = np.array([0, 1, 2]), np.array([1, 2, 3])
    connected_components(4, left, right)
    assert (left.tolist(), right.tolist()) == ([0, 1, 2], [1, 2, 3])
