"""Plans cut, exported and measured for real; what the clock says is not judged here."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import onnx
import pytest
from torch import nn

from nnslim.channels import channel_groups
from nnslim.measure.bench import Bench
from nnslim.pruning.latency.device import NetworkDevice, open_device, worst
from nnslim.pruning.latency.plan_for import plan_for_latency
from nnslim.pruning.latency.result import SearchSettings
from nnslim.pruning.plans.constraints import Constraints
from nnslim.pruning.plans.plan import make_plan
from nnslim.settings.budget import LatencyBudget, Limit
from nnslim.settings.eval import PairedSettings
from nnslim.settings.session import SessionSettings
from tests.network.nets import network_of

QUICK = PairedSettings(
    pairs=2, max_pairs=2, rounds=2, block_s=0.0, warmup_s=0, warmup_runs=1, draws=100
)


def network():
    return network_of(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 128, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 4),
    )


@pytest.mark.slow
def test_a_plans_network_is_what_is_measured(tmp_path):
    parent = network()
    channels = channel_groups(parent)
    bench = Bench(parent, tmp_path, SessionSettings("cpu", threads=1), (1, 3))
    device = NetworkDevice(parent, channels, bench)
    scores = {g.name: np.arange(g.width, dtype=float) for g in channels.prunable}
    plan = make_plan(channels, device.costs, scores, Constraints({}))
    ratios = device.measure(plan, QUICK)
    assert set(ratios) == {1, 3}
    assert worst(ratios).ratio == max(own.ratio for own in ratios.values())
    assert all(own.n_pairs == 2 and own.parent_ms > 0 for own in ratios.values())
    again = device.measure(plan, QUICK)
    assert bench.facts()["n_exports"] == 2  # the parent and one plan, measured twice
    assert again != ratios
    assert set(device.control()) == set(device.layer_times()) == {1, 3}
    assert device.control() is device.control()
    assert parent.n_parameters == sum(p.numel() for p in network().parameters())


@pytest.mark.slow
def test_the_file_of_a_plan_has_its_widths_and_replaces_the_last(tmp_path):
    parent = network()
    channels = channel_groups(parent)
    bench = Bench(parent, tmp_path, SessionSettings("cpu", threads=1))
    device = NetworkDevice(parent, channels, bench)
    scores = {g.name: np.arange(g.width, dtype=float) for g in channels.prunable}
    for amount in (0.9, 0.5):
        constraints = Constraints({"params": Limit(amount, relative=True)})
        plan = make_plan(channels, device.costs, scores, constraints)
        device.measure(plan, QUICK)
        files = sorted(tmp_path.iterdir())
        assert len(files) == 2
        weights = onnx.load_model(files[-1]).graph.initializer
        widths = [row.after for row in plan.rows if row.group.name == "0"]
        assert any(list(w.dims)[:2] == [widths[0], 3] for w in weights)


@pytest.mark.slow
def test_a_whole_search_leaves_a_record_and_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    parent = network()
    channels = channel_groups(parent)
    scores = {g.name: np.arange(1.0, g.width + 1) for g in channels.prunable}
    settings = SearchSettings(quick=QUICK, thorough=QUICK)
    with open_device(parent, channels, SessionSettings("cpu", threads=1)) as device:
        (folder,) = {path.parent for path in tmp_path.glob("*/0.onnx")}
        budget = LatencyBudget(1e6, relative=False)  # no clock can make this fail
        constraints = Constraints({"params": Limit(0.2, relative=True)})
        found = plan_for_latency(device, scores, constraints, budget, settings)
        assert folder.is_dir()
    assert not folder.exists()
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert record["provider_used"] == "CPUExecutionProvider"
    assert record["cpu_threads"] == 1
    assert len(record["trials"]) == 1
    assert record["layer_times"][0]["n_timed"] == 3
