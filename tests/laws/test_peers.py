"""The peers' kinds of networks to a target and to ONNX; laws 1 and 4 run over the whole zoo."""

from __future__ import annotations

import pytest

from nnslim.channels import channel_groups
from nnslim.onnx import export_onnx
from nnslim.prune import CostModel, Limit, Rules, make_plan
from nnslim.prune.saliency import magnitude
from nnslim.surgery import apply_edit, verify_cut
from tests.laws.nets_peers import PEERS
from tests.laws.reference import check_law_1
from tests.laws.zoo import network_of

NAMES = [*PEERS, "UnusedParameters", "BareParameters"]
PARITY = [name for name in NAMES if name != "TwoInputsTwoOutputs"]


def half_of(name: str):
    network = network_of(name)
    channels = channel_groups(network)
    rules = Rules({"params": Limit(0.5, relative=True)}, approximate=True)
    plan = make_plan(channels, CostModel(network, channels), magnitude(network, channels), rules)
    return network, channels, plan, apply_edit(network, plan.edit, channels)


@pytest.mark.parametrize("name", NAMES)
def test_target_is_met_and_law_1_holds(name):
    network, channels, plan, cut = half_of(name)
    assert cut.n_parameters == plan.after.params <= network.n_parameters / 2
    assert check_law_1(network, cut, channels, plan.edit.keep).says_something
    verify_cut(network, cut, channels, plan.edit)


@pytest.mark.parametrize("name", PARITY)
def test_exported_equals_cut(name, tmp_path):
    parity = export_onnx(half_of(name)[3], tmp_path / "net.onnx").parity
    assert [entry.batch for entry in parity.per_batch] == [1, 2, 5]
    assert parity.max_rel < 1e-4
