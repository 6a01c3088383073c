from __future__ import annotations

import numpy as np
import pytest
import torch

from nnslim.channels import channel_groups
from nnslim.network import Network
from nnslim.surgery import Edit, apply_edit, verify_cut
from tests.laws.made import half_edit, random_edit
from tests.laws.reference import Law1, check_law_1, random_inputs, relative
from tests.laws.runs import Run
from tests.laws.zoo import EVERY, NETS, module_of, network_of

SEEDS = (1, 2, 3)


def cut_and_check(network: Network, edit: Edit) -> tuple[Network, Law1]:
    channels = channel_groups(network)
    cut = apply_edit(network, edit, channels)
    law = check_law_1(network, cut, channels, edit.keep)
    check = verify_cut(network, cut, channels, edit)
    assert (check.removed > 0) == (law.removed > 0)
    return cut, law


@EVERY
@torch.no_grad()
def test_network_equals_module(name):
    """The network computes what the model does, bit for bit; the oracle's interpreter nearly."""
    network = network_of(name)
    for batch in (1, 2, 5):
        inputs = [x.float() for x in random_inputs(network, batch=batch)]
        expected = _flat(module_of(name)(*(x.clone() for x in inputs)))
        found = _flat(network(*(x.clone() for x in inputs)))
        run = Run(network, inputs)
        for node in network.graph.nodes:
            run.step(node)
        for ours, theirs, oracles in zip(found, expected, run.outputs(), strict=True):
            # Whatever a model's bare squeeze() does to one image, a network keeps the batch.
            assert torch.equal(ours, theirs.view(ours.shape))
            assert relative(oracles, ours) < 1e-5


@EVERY
def test_groups_are_prunable(name):
    """No net passes by having nothing to cut."""
    found: dict[str, int] = {}
    for group in channel_groups(network_of(name)).prunable:
        for member in group.members:
            key = member.tensor.removesuffix(".weight") + (".in" if member.dim else "")
            found[key] = found.get(key, 0) + member.positions.size
    assert found == found | NETS[name].prunable


@EVERY
@pytest.mark.parametrize("seed", SEEDS)
def test_cut_equals_masked(name, seed):
    network = network_of(name)
    channels = channel_groups(network)
    edit = (
        half_edit(channels, 0, ("free", "approximate"))
        if seed == 1
        else random_edit(channels, seed)
    )
    cut, law = cut_and_check(network, edit)
    assert law.says_something, law
    assert law.n_compared > len(network.graph.nodes) / 2, law
    channels = channel_groups(cut)
    cut_and_check(cut, random_edit(channels, seed + 10))


@EVERY
def test_groups_survive_an_edit(name):
    """A second walk finds what the first edit left, nothing more and nothing less.

    What may shrink is said, because ``auto`` decides anew by the sizes that are left.
    """
    channels = channel_groups(network_of(name), shrink="whole")
    edit = random_edit(channels, 4, least=2)
    cut = apply_edit(network_of(name), edit, channels)
    again = {group.name: group.width for group in channel_groups(cut, shrink="whole").prunable}
    assert again == {group: len(keep) for group, keep in edit.keep.items()}


@EVERY
def test_one_channel_is_enough(name):
    """Every group at its smallest, where dimensions of size one must not broadcast or vanish."""
    channels = channel_groups(network_of(name))
    keep = {
        group.name: np.array([group.width - 1])
        if group.parts is None
        else np.sort(group.parts[:, -1])
        for group in channels.prunable
    }
    cut_and_check(network_of(name), Edit(keep))


@EVERY
def test_keeping_everything_changes_nothing(name):
    network = network_of(name)
    channels = channel_groups(network)
    inputs = [x.float() for x in random_inputs(network)]
    everything = Edit({group.name: np.arange(group.width) for group in channels.groups})
    for edit in (Edit({}), everything):
        same = apply_edit(network, edit, channels)
        assert list(same.state_dict()) == list(network.state_dict())
        for key, tensor in same.state_dict().items():
            assert torch.equal(tensor, network.state_dict()[key])
            assert tensor.data_ptr() != network.state_dict()[key].data_ptr()
        for ours, theirs in zip(_flat(same(*inputs)), _flat(network(*inputs)), strict=True):
            assert torch.equal(ours, theirs)


def _flat(value):
    return torch.utils._pytree.tree_leaves(value)
