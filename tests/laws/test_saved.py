"""Law 4: a saved network is the same network, in a process that never saw its source."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from nnslim.artifact import load_network, save_network
from nnslim.channels import channel_groups
from nnslim.network import Network
from nnslim.surgery import apply_edit
from tests.laws.fresh import assert_same_bits, run_fresh
from tests.laws.made import random_edit
from tests.laws.zoo import EVERY, NETS, network_of


@functools.cache
def cut_of(name: str) -> Network:
    channels = channel_groups(network_of(name))
    return apply_edit(network_of(name), random_edit(channels, 7), channels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every net, whole and cut, as a file; and what a fresh process computed with it."""
    folder = tmp_path_factory.mktemp("saved")
    whole = {f"{name}-whole": network_of(name) for name in NETS}
    run_fresh(whole | {f"{name}-cut": cut_of(name) for name in NETS}, folder)
    return folder


@EVERY
def test_fresh_process_computes_the_same_bits(name, folder):
    for kind, network in (("whole", network_of(name)), ("cut", cut_of(name))):
        assert_same_bits(f"{name}-{kind}", network, folder)


@EVERY
def test_reloaded_network_is_the_same_thing(name, folder, tmp_path):
    """Graph, tensors and kinds are equal; so are the bytes of a second save and a second edit."""
    path = folder / f"{name}-cut.net.safetensors"
    network, again = cut_of(name), load_network(path)
    assert again.graph == network.graph
    assert set(again.tensors()) == set(network.tensors())
    for key, theirs in network.tensors().items():
        ours = again.tensor(key)
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype
        assert (type(ours), ours.requires_grad) == (type(theirs), theirs.requires_grad)
    save_network(again, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    edits = [random_edit(channel_groups(net), 9) for net in (network, again)]
    states = [apply_edit(n, e).state_dict() for n, e in zip((network, again), edits, strict=True)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
