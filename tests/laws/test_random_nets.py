"""Laws 1 and 4 over random networks and random edits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import event, given, note
from hypothesis import strategies as st

from nnslim.artifact import load_network, save_network
from nnslim.channels import channel_groups
from nnslim.network import Network, trace_network
from nnslim.surgery import apply_edit, verify_cut
from tests.laws.made import random_edit
from tests.laws.reference import check_law_1, random_inputs
from tests.laws.strategies import RandomNet, networks


def reloaded(network: Network) -> Network:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        save_network(network, path)
        return load_network(path)


@given(networks(), st.integers(0, 999))
def test_cut_equals_masked_and_saved_equals_cut(model: RandomNet, seed: int):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    for number in range(2):  # the second edit is of the reloaded network
        channels = channel_groups(network)
        edit = random_edit(channels, seed + number)
        note(f"{model}: {[(name, list(keep)) for name, keep in edit.keep.items()]}")
        cut = apply_edit(network, edit, channels)
        law = check_law_1(network, cut, channels, edit.keep, seed)
        verify_cut(network, cut, channels, edit, seed)
        event(f"edit {number + 1} says something: {law.says_something}")
        network = reloaded(cut)
        images = random_inputs(cut)[0].float()
        with torch.no_grad():
            assert torch.equal(network(images), cut(images))


@given(networks())
def test_everything_is_prunable(model: RandomNet):
    """Of these blocks none freezes: only the image, the classes and what stands alone stay."""
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    for group in channel_groups(network).groups:
        known = ("network output", "a single channel", "meets a fixed size", "joins a fixed size")
        assert group.status == "free" or group.reason.startswith(known), (model, group.reason)
