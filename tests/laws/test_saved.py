"""Law 4: a saved network is the same network, in a process that never saw its source."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nnslim.artifact import load_network, save_network
from nnslim.channels import channel_groups
from nnslim.network import Network
from nnslim.surgery import apply_edit
from tests.laws.made import random_edit
from tests.laws.reference import random_inputs
from tests.laws.zoo import EVERY, NETS, network_of

CHILD = """
import pathlib, sys
import safetensors.torch, torch
import nnslim
torch.set_num_threads(1)
for path in sorted(pathlib.Path().glob("*.net.safetensors")):
    network = nnslim.load(path)
    inputs = safetensors.torch.load_file(str(path).replace(".net.", ".in."))
    with torch.no_grad():
        # Cloned: a file may put tensors anywhere, and kernels round unaligned ones differently.
        value = network(*(inputs[str(i)].clone() for i in range(len(inputs))))
    leaves = torch.utils._pytree.tree_leaves(value)
    outputs = {str(i): leaf.contiguous().clone() for i, leaf in enumerate(leaves)}
    safetensors.torch.save_file(outputs, str(path).replace(".net.", ".out."))
assert not any(name.split(".")[0] in ("tests", "torchvision") for name in sys.modules)
"""


@functools.cache
def cut_of(name: str) -> Network:
    channels = channel_groups(network_of(name))
    return apply_edit(network_of(name), random_edit(channels, 7), channels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every net, whole and cut, as a file; and what a fresh process computed with it."""
    folder = tmp_path_factory.mktemp("saved")
    for name in NETS:
        for kind, network in (("whole", network_of(name)), ("cut", cut_of(name))):
            save_network(network, folder / f"{name}-{kind}.net.safetensors")
            inputs = {str(i): x.float() for i, x in enumerate(random_inputs(network))}
            safetensors.torch.save_file(inputs, folder / f"{name}-{kind}.in.safetensors")
    # Isolated: neither the working directory nor this repository's tests are importable.
    command = [sys.executable, "-I", "-c", CHILD]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@EVERY
@torch.no_grad()
def test_fresh_process_computes_the_same_bits(name, folder):
    for kind, network in (("whole", network_of(name)), ("cut", cut_of(name))):
        found = safetensors.torch.load_file(folder / f"{name}-{kind}.out.safetensors")
        inputs = [x.float() for x in random_inputs(network)]
        expected = torch.utils._pytree.tree_leaves(network(*inputs))
        assert len(found) == len(expected)
        for number, value in enumerate(expected):
            assert torch.equal(found[str(number)], value)


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
