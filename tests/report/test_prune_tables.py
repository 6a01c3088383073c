"""The tables of a pruning report say what its dictionary says."""

from __future__ import annotations

import pytest

from nnslim.report.prune_tables import (
    accuracy_table,
    cost_table,
    frozen_table,
    group_table,
    prune_tables,
    training_table,
    verdict,
)
from tests.report.made import cut_only, plan, whole


def test_verdict():
    assert verdict(whole()) == (
        "48.0 % of the parameters and 42.0 % of the MACs remain; top-1 went from 91.73 % to 90.41 %"
        " (-1.32 points on 10,000 images)."
    )
    assert verdict(cut_only()).endswith("remain; accuracy was not measured.")


def test_costs():
    assert cost_table(whole()).rows == (
        ("parameters", "1,000", "480", "48.0 %"),
        ("MACs", "50.0 k", "21.0 k", "42.0 %"),
        ("size of the tensors", "4.00 kB", "1.92 kB", "48.0 %"),
        ("latency, batch 1, ms", "0.73", "0.41", "56.2 ± 1.2 %"),
    )
    assert len(cost_table(plan()).rows) == 3


def test_a_network_without_macs():
    report = plan()
    report["before"]["macs"] = report["after"]["macs"] = 0
    assert cost_table(report).rows[1] == ("MACs", "0", "0", "-")


def test_accuracy_along_the_way():
    table = accuracy_table(whole())
    assert table.title == "Accuracy on 10,000 images"
    assert table.rows == (
        ("before", "91.73", "99.71", ""),
        ("right after the removal", "38.20", "-", "-53.53"),
        ("with new batch norm statistics", "71.30", "-", "-20.43"),
        ("after fine-tuning (3 epochs)", "90.41", "99.62", "-1.32"),
        ("in onnxruntime", "90.41", "-", "-1.32"),
    )


def test_steps_that_were_not_taken_have_no_row():
    report = whole(0) | {"onnx": None}
    report["stages"] = [own for own in report["stages"] if own["stage"] != "calibrated"]
    assert [row[0] for row in accuracy_table(report).rows] == [
        "before",
        "right after the removal",
        "after",
    ]
    assert not accuracy_table(cut_only()).rows


def test_groups():
    assert group_table(plan()).rows == (
        ("conv1", "conv1, +3", "8", "4", ""),
        ("conv2", "conv2, +3", "6", "6", "kept on request"),
    )
    assert frozen_table(plan()).rows == (("network output", "1", "4"),)


def test_epochs():
    assert training_table(whole()).rows[1] == (
        "2",
        "tuned",
        "0.3679",
        "91.00",
        "-",
        "0.025",
        "41.2",
    )
    assert not training_table(plan()).rows


@pytest.mark.parametrize(
    ("report", "titles"),
    [
        (plan(), ["Channel groups", "Channels that stay", "Cost"]),
        (cut_only(), ["Cost"]),
        (whole(), ["Accuracy on 10,000 images", "Cost"]),
    ],
    ids=["dry run", "no data", "whole"],
)
def test_the_command_line_shows_the_plan_or_the_outcome(report, titles):
    assert [table.title for table in prune_tables(report)] == titles
