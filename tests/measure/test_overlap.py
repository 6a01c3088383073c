"""Batches prepared ahead: the same items, errors and ends as a plain loop, and really at once."""

from __future__ import annotations

import threading
import time

import pytest

from nnslim.measure.overlap import Stopwatch, ahead


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_same_items_in_the_same_order(depth):
    assert list(ahead(iter(range(50)), depth)) == list(range(50))
    assert list(ahead([], depth)) == []


def test_an_error_comes_out_where_it_would_have():
    def items():
        yield 1
        raise KeyError("broken image")

    found = []
    with pytest.raises(KeyError, match="broken image"):
        found.extend(ahead(items()))
    assert list(found) in ([], [1])  # extend may lose what came before the error
    one_by_one = ahead(items())
    assert next(one_by_one) == 1
    with pytest.raises(KeyError):
        next(one_by_one)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    made = []

    def endless():
        number = 0
        while True:
            made.append(number)
            yield number
            number += 1

    for item in (items := ahead(endless())):
        if item == 3:
            break
    items.close()
    assert threading.active_count() == before
    assert len(made) < 10


def test_preparing_and_computing_overlap():
    """20 items of 10 ms each way take 0.4 s in turns, and about half of it at once."""

    def items():
        for number in range(20):
            time.sleep(0.01)
            yield number

    watch, began = Stopwatch(), time.perf_counter()
    for item in ahead(items()):
        watch.call(lambda _: time.sleep(0.01), item)
    assert time.perf_counter() - began < 0.36
    assert 0.18 < watch.busy_s <= watch.total_s


def test_the_stopwatch_counts_only_what_it_calls():
    now = [0.0]

    def tick(seconds):
        now[0] += seconds
        return seconds

    watch = Stopwatch(clock=lambda: now[0])
    assert watch.call(tick, 2.0) == 2.0
    tick(3.0)
    watch.call(tick, 1.0)
    assert (watch.busy_s, watch.total_s) == (3.0, 6.0)
