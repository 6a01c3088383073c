"""Laws 1, 4 and 5 over random networks and random edits, and edits after edits.

Law 3 needs planting; until then, two edits in a row must equal the one that they amount to.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import assume, event, given, note, settings
from hypothesis import strategies as st

from nnslim.artifact import load_network, save_network
from nnslim.channels import channel_groups
from nnslim.network import Network, trace_network
from nnslim.onnx import export_onnx
from nnslim.settings.prune import Shrink
from nnslim.surgery import Edit, apply_edit, verify_cut
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
        assert group.status != "frozen" or group.reason.startswith(known), (model, group.reason)


@given(networks(), st.integers(0, 999), st.sampled_from(["whole", "within", "auto"]))
def test_law_1_whatever_may_shrink(model: RandomNet, seed: int, shrink: Shrink):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    channels = channel_groups(network, shrink=shrink)
    edit = random_edit(channels, seed)
    note(f"{model}: {[(name, list(keep)) for name, keep in edit.keep.items()]}")
    cut = apply_edit(network, edit, channels)
    check_law_1(network, cut, channels, edit.keep, seed)
    verify_cut(network, cut, channels, edit, seed)


@given(networks(), st.integers(0, 999))
def test_two_edits_equal_the_one_they_amount_to(model: RandomNet, seed: int):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    channels = channel_groups(network, shrink="whole")
    first = random_edit(channels, seed, least=2)
    once = apply_edit(network, first, channels)
    again = channel_groups(once, shrink="whole")
    second = random_edit(again, seed + 1)
    assume(all(group.name in first.keep for group in again.prunable))
    twice = apply_edit(once, second, again)
    both = {n: k[second.keep[n]] if n in second.keep else k for n, k in first.keep.items()}
    direct = apply_edit(network, Edit(both), channels)
    assert twice.state_dict().keys() == direct.state_dict().keys()
    for name, tensor in twice.state_dict().items():
        assert torch.equal(tensor, direct.state_dict()[name]), name


@pytest.mark.slow
@settings(max_examples=25)
@given(networks(), st.integers(0, 999))
def test_exported_equals_cut(model: RandomNet, seed: int):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    channels = channel_groups(network)
    cut = apply_edit(network, random_edit(channels, seed), channels)
    with tempfile.TemporaryDirectory() as folder:
        parity = export_onnx(cut, Path(folder) / "net.onnx").parity
    assert [entry.batch for entry in parity.per_batch] == [1, 2, 5]
    assert parity.max_rel < 1e-3


@pytest.mark.slow
@settings(max_examples=400)
@given(networks(), st.integers(0, 999))
def test_many_more_cuts(model: RandomNet, seed: int):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    channels = channel_groups(network)
    edit = random_edit(channels, seed)
    cut = apply_edit(network, edit, channels)
    check_law_1(network, cut, channels, edit.keep, seed)
