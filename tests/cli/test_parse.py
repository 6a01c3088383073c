"""Values that flags carry as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnslim.errors import ConfigError
from nnslim.settings.budget import Limit
from nnslim.settings.parse import (
    parse_count,
    parse_counts,
    parse_floats,
    parse_limit,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("50%", Limit(0.5, relative=True)),
        (" 12.5 % ", Limit(0.125, relative=True)),
        ("100%", Limit(1.0, relative=True)),
        ("130k", Limit(130_000, relative=False)),
        ("130K", Limit(130_000, relative=False)),
        ("20M", Limit(20_000_000, relative=False)),
        ("1.5M", Limit(1_500_000, relative=False)),
        ("4.1G", Limit(4_100_000_000, relative=False)),
        ("300_000", Limit(300_000, relative=False)),
        ("1", Limit(1, relative=False)),
    ],
)
def test_budget_is_read(text, limit):
    assert parse_limit(text, "--params") == limit


@pytest.mark.parametrize("text", ["0%", "0.0%", "150%", "100.01%"])
def test_share_outside_its_range_is_refused_and_the_range_is_said(text):
    with pytest.raises(ConfigError, match=r"above 0% and at most 100%"):
        parse_limit(text, "--params")


@pytest.mark.parametrize("text", ["0", "0k", "1.5", "0.5", "0.0001k"])
def test_number_that_counts_nothing_is_refused(text):
    with pytest.raises(ConfigError, match="whole number of at least 1"):
        parse_limit(text, "--macs")


def test_fraction_without_percent_sign_is_answered_with_the_percentage():
    with pytest.raises(ConfigError) as caught:
        parse_limit("0.5", "--params")
    assert caught.value.hint == "write 50.0% for that share"


@pytest.mark.parametrize(
    "text", ["", "half", "-5%", "-5", "5m", "5 MB", "1e6", "%", "nan", "inf", "½%"]
)
def test_text_that_is_no_budget_is_refused_with_examples(text):
    with pytest.raises(ConfigError, match="neither a share nor a number") as caught:
        parse_limit(text, "--params")
    assert "50%" in str(caught.value)


@given(share=st.integers(1, 100), total=st.integers(1, 10**10))
def test_share_is_the_largest_whole_number_that_keeps_to_it(share, total):
    assert parse_limit(f"{share}%", "--params").of(total) == total * share // 100


@given(st.integers(1, 10**12))
def test_count_limits_whatever_the_total(count):
    assert parse_limit(str(count), "--params").of(7) == count


def test_lists_and_sizes_are_read():
    assert parse_counts("1, 32", "--batch-size") == (1, 32)
    assert parse_floats("0.485,0.456", "--mean") == (0.485, 0.456)
    assert parse_size("224", "--input-size") == (224, 224)
    assert parse_size("192x256", "--input-size") == (192, 256)
    assert parse_count("140k", "--max-params") == 140_000


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (parse_counts, "0"),
        (parse_counts, "1,,2"),
        (parse_counts, "-1"),
        (parse_counts, "²"),
        (parse_floats, "0.5,"),
        (parse_floats, "nan"),
        (parse_floats, "a"),
        (parse_size, "0"),
        (parse_size, "3x"),
        (parse_size, "3x4x5"),
        (parse_count, "50%"),
        (parse_count, "0"),
    ],
)
def test_malformed_value_is_refused_and_the_flag_is_named(parse, value):
    with pytest.raises(ConfigError, match=rf"^--flag {re.escape(value)}: "):
        parse(value, f"--flag {value}")
