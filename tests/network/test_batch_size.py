"""What is done to a size from the batch holds for every batch size, or stops."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnslim.network.batch_size import BatchSize, NotRecordedError
from nnslim.network.graph import BATCH

NUMBERS = st.integers(-3, 12)
TIMES = st.integers(1, 24)
BINARY = (
    operator.mul, operator.floordiv, operator.mod, operator.eq, operator.ne, operator.lt,
    operator.le, operator.gt, operator.ge, operator.add, operator.sub, operator.truediv, divmod,
    operator.pow, operator.lshift, operator.and_, operator.or_, operator.xor, max, min,
)  # fmt: skip
UNARY = (int, float, hash, abs, operator.neg, operator.pos, operator.invert, math.floor, math.ceil)


def _at(value: object, batch: int) -> object:
    """What a result stands for at a batch size."""
    return int.__floordiv__(value, BATCH) * batch if isinstance(value, BatchSize) else value


@given(st.sampled_from(BINARY), TIMES, NUMBERS, st.booleans())
def test_a_result_is_that_of_every_batch_size(
    function: Callable[[int, int], object], times: int, number: int, swapped: bool
) -> None:
    size = BatchSize(times * BATCH)
    try:
        found = function(number, size) if swapped else function(size, number)
    except NotRecordedError:
        return
    for batch in (2, 3, 5, 64, 97):
        own = times * batch
        expected = function(number, own) if swapped else function(own, number)
        assert _at(found, batch) == expected


@given(st.sampled_from(BINARY[3:9]), TIMES, TIMES)
def test_two_sizes_compare_as_at_every_batch_size(
    function: Callable[[int, int], bool], times: int, other: int
) -> None:
    found = function(BatchSize(times * BATCH), BatchSize(other * BATCH))
    assert all(found == function(times * batch, other * batch) for batch in (1, 2, 97))


@pytest.mark.parametrize("function", UNARY, ids=lambda function: function.__name__)
def test_what_would_lose_where_it_came_from_stops(function: Callable[[int], object]) -> None:
    with pytest.raises(NotRecordedError):
        function(BatchSize(BATCH))


def test_what_models_do_is_allowed() -> None:
    size = BatchSize(4 * BATCH)
    assert type(size * 3) is type(3 * size) is type(size // 2) is BatchSize
    assert size % 4 == 0
    assert size > 1
    assert size != 0
    assert bool(size)
