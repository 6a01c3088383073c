"""The peers' kinds of networks: to a target, proven, in a file of ours and in one of ONNX."""

from __future__ import annotations

import functools
from pathlib import Path

import onnxruntime
import pytest
import torch

from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.errors import UnsupportedModelError
from nnslim.network import Network
from nnslim.onnx import export_onnx
from nnslim.pruning import Constraints, CostModel, Limit, make_plan
from nnslim.pruning.plans.plan import Plan
from nnslim.surgery import apply_edit, verify_cut
from tests.laws.fresh import assert_same_bits, run_fresh
from tests.laws.nets_peers import PEERS
from tests.laws.reference import check_law_1, random_inputs, relative
from tests.laws.zoo import network_of

NAMES = [*PEERS, "UnusedParameters", "BareParameters"]
TWO = "TwoInputsTwoOutputs"
EXPORTED = [
    pytest.param(name, marks=() if name == "ConcatThenSplit" else pytest.mark.slow)
    for name in NAMES
    if name != TWO
]


@functools.cache
def half_of(name: str) -> tuple[Network, ChannelMap, Plan, Network]:
    network = network_of(name)
    channels = channel_groups(network)
    rules = Constraints({"params": Limit(0.5, relative=True)}, approximate=True)
    plan = make_plan(channels, CostModel(network, channels), magnitude(network, channels), rules)
    return network, channels, plan, apply_edit(network, plan.edit, channels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("peers")
    run_fresh({name: half_of(name)[3] for name in NAMES}, folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_target_is_met_and_law_1_holds(name):
    network, channels, plan, cut = half_of(name)
    assert cut.n_parameters == plan.after.params <= network.n_parameters / 2
    assert check_law_1(network, cut, channels, plan.edit.keep).says_something
    verify_cut(network, cut, channels, plan.edit)


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_process_computes_the_same_bits(name, folder):
    assert_same_bits(name, half_of(name)[3], folder)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_equals_cut(name, tmp_path):
    parity = export_onnx(half_of(name)[3], tmp_path / "net.onnx").parity
    assert [entry.batch for entry in parity.per_batch] == [1, 2, 5]
    assert parity.max_rel < 1e-4


def test_two_inputs_and_outputs_through_the_exporter_itself(tmp_path):
    """``export_onnx`` writes classifiers of images; torch's exporter takes any network."""
    cut, path = half_of(TWO)[3], tmp_path / "net.onnx"
    with pytest.raises(UnsupportedModelError, match="2 inputs"):
        export_onnx(cut, path)
    example = tuple(x.float() for x in random_inputs(cut))
    shapes = (({0: torch.export.Dim.DYNAMIC},) * 2,)
    torch.onnx.export(cut, example, path, dynamic_shapes=shapes, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in (1, 2, 5):
        inputs = [x.float() for x in random_inputs(cut, seed=size, batch=size)]
        names = (entry.name for entry in session.get_inputs())
        found = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
        with torch.no_grad():
            expected = cut(*inputs)
        for ours, theirs in zip(found, expected, strict=True):
            assert relative(torch.from_numpy(ours), theirs) < 1e-5
