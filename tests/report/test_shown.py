"""Results where Python prints them and in a notebook."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import nnslim
from nnslim.errors import ConfigError
from nnslim.report.shown import Shown
from nnslim.report.table import Table


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    return nnslim.trace(model, torch.zeros(2, 1, 8, 8))


def test_groups_are_a_line_and_a_table(network):
    groups = nnslim.channel_groups(network)
    assert repr(groups) == "ChannelMap(2 groups, 1 of them free: 0 (8))"
    html = groups._repr_html_()
    assert html.count("<tr>") == 1 + len(groups.groups)
    assert "<td>0</td>" in html


def test_a_pruned_network_says_what_remains(network):
    result = nnslim.prune(network, "digits", "60%", epochs=0, data__subset=64)
    assert re.fullmatch(
        r"PruneResult\([\d,]+ of 2,970 parameters, [\d,]+ of [\d,]+ MACs, test top-1 .* -> .* %\)",
        repr(result),
    )
    assert result._repr_html_().count("<tr>") == 1 + len(result.stages)


def test_files_and_exports_say_what_they_are(network, tmp_path):
    written = nnslim.export(network, str(tmp_path / "net.onnx"))
    assert f"{written.n_bytes:,} bytes" in repr(written)
    times = {"latency__min_s": 0.05, "latency__max_s": 0.05, "latency__warmup_s": 0.0}
    report = nnslim.evaluate(str(tmp_path / "net.onnx"), "digits", device="cpu", **times)
    assert repr(report).startswith("EvalReport(net.onnx: 2,970 parameters, top-1 ")
    assert "net.onnx" in report._repr_html_()


def test_markup_in_a_cell_stays_text():
    class Named(Shown):
        def tables(self):
            return (Table.of("<i>", ["a"], [["<b>"]]),)

    html = Named()._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert "&lt;i&gt;" in html


def test_a_setting_that_there_is_not_is_refused(network):
    with pytest.raises(ConfigError, match=r"no setting epoch; did you mean epochs"):
        nnslim.prune(network, epoch=3)
    with pytest.raises(ConfigError, match=r"training\.ema=2: must be above 0 and below 1"):
        nnslim.prune(network, training__ema=2)
