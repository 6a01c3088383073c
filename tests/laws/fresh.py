"""Files of networks, and what a process that never saw their source computes with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from nnslim.artifact import save_network
from nnslim.network import Network
from tests.laws.reference import random_inputs

__all__ = ["assert_same_bits", "run_fresh"]

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


def run_fresh(networks: Mapping[str, Network], folder: Path) -> None:
    """Save every network as ``NAME.net.safetensors`` and run them all in one fresh process."""
    for name, network in networks.items():
        save_network(network, folder / f"{name}.net.safetensors")
        inputs = {str(i): x for i, x in enumerate(_inputs(network))}
        safetensors.torch.save_file(inputs, folder / f"{name}.in.safetensors")
    # Isolated: neither the working directory nor this repository's tests are importable.
    command = [sys.executable, "-I", "-c", CHILD]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@torch.no_grad()
def assert_same_bits(name: str, network: Network, folder: Path) -> None:
    """What the fresh process computed with the file is what the network computes."""
    found = safetensors.torch.load_file(folder / f"{name}.out.safetensors")
    expected = torch.utils._pytree.tree_leaves(network(*_inputs(network)))
    assert len(found) == len(expected)
    for number, value in enumerate(expected):
        assert torch.equal(found[str(number)], value)


def _inputs(network: Network) -> list[Tensor]:
    return [x.float() for x in random_inputs(network)]
