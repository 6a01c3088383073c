"""The laws can fail: bugs planted into the engine turn law 1 red, in the oracle and at run time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nnslim.channels import channel_groups
from nnslim.channels.rules import DEFAULT_RULES
from nnslim.errors import VerificationError
from nnslim.network import Network
from nnslim.surgery import Edit, apply, apply_edit, indices, literals, verify_cut
from tests.laws.made import half_edit, random_edit
from tests.laws.reference import LawBrokenError, block_columns, check_law_1, kept_indices
from tests.laws.zoo import network_of


def assert_red(network: Network, edit: Edit, rules=None) -> None:
    """The edit goes through, and both checks of law 1 refuse the result."""
    channels = channel_groups(network, rules)
    cut = apply_edit(network, edit, channels)
    with pytest.raises(LawBrokenError):
        check_law_1(network, cut, channels, edit.keep)
    # Where not even the shapes fit, the cut network does not run at all.
    with pytest.raises((VerificationError, RuntimeError)):
        verify_cut(network, cut, channels, edit)


@pytest.fixture
def no_shape_check(monkeypatch):
    """Let edits with wrong shapes through, which ``apply_edit`` refuses by itself."""
    monkeypatch.setattr(apply, "check_shapes", lambda *_: None)


@pytest.mark.parametrize(
    "name", ["Residual", "Dense", "SqueezeExcite", "ShuffleUnits", "ChannelsLastHead", "Grouped"]
)
def test_off_by_one_in_any_tensor(name):
    """Every tensor and dimension that is cut, one at a time, takes the neighbours instead."""
    network = network_of(name)
    channels = channel_groups(network)
    edit = half_edit(channels, 1)
    cut = apply_edit(network, edit, channels)
    n_planted = 0
    per_block = block_columns(network, channels, edit.keep)
    for key, dims in kept_indices(channels, edit.keep).items():
        if key in per_block:
            continue
        for dim, kept in dims.items():
            size = network.tensor(key).shape[dim]
            if len(kept) == size:
                continue
            wrong = dims | {dim: ((kept + 1) % size).sort().values}
            right = cut.tensor(key).detach().clone()
            with torch.no_grad():
                cut.tensor(key).copy_(_gathered(network.tensor(key), wrong))
                with pytest.raises(LawBrokenError):
                    check_law_1(network, cut, channels, edit.keep)
                with pytest.raises(VerificationError):
                    verify_cut(network, cut, channels, edit)
                cut.tensor(key).copy_(right)
            n_planted += 1
    assert n_planted >= 6
    check_law_1(network, cut, channels, edit.keep)


def _gathered(tensor: Tensor, kept: dict[int, Tensor]) -> Tensor:
    for dim, index in kept.items():
        tensor = tensor.index_select(dim, index)
    return tensor


@pytest.mark.usefixtures("no_shape_check")
@pytest.mark.parametrize("name", ["SplitSwapped", "ChunkFour", "CrossStage"])
def test_swapped_pieces_of_a_split(name):
    """Where as many channels stay in each piece, nothing but the values can tell."""
    network = network_of(name)
    op = next(n.op for n in network.graph.nodes if "split" in n.op or "chunk" in n.op)

    def swapped(walk, node, args):
        return tuple(reversed(DEFAULT_RULES[op](walk, node, args)))

    channels = channel_groups(network, {op: swapped})
    assert_red(network, half_edit(channels, 1), {op: swapped})


@pytest.mark.parametrize("statistic", ["running_mean", "running_var", "bias"])
def test_first_entries_of_a_statistic_instead_of_the_kept_ones(monkeypatch, statistic):
    right = apply._slice

    def prefix(tensor, cut, labels):
        result = right(tensor, cut, labels)
        if any(tensor is network.tensor(f"stem.1.{statistic}") for network in (whole,)):
            with torch.no_grad():
                result.copy_(tensor[: len(result)])
        return result

    whole = network_of("Residual")
    monkeypatch.setattr(apply, "_slice", prefix)
    assert_red(whole, half_edit(channel_groups(whole), 1))


@pytest.mark.usefixtures("no_shape_check")
def test_forgotten_statistic():
    def forgetful(walk, node, args):
        return DEFAULT_RULES["aten.batch_norm.default"](walk, node, {**args, "running_var": None})

    network = network_of("Plain")
    rules = {"aten.batch_norm.default": forgetful}
    assert_red(network, half_edit(channel_groups(network, rules), 1), rules)


@pytest.mark.usefixtures("no_shape_check")
@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("ViewHead", "aten.reshape.default"),
        ("Depthwise", "aten.conv2d.default"),
        ("SplitInOrder", "aten.split_with_sizes.default"),
        ("ConcatThenSlice", "aten.slice.Tensor"),
        ("PaddedUnevenly", "aten.pad.default"),
        ("ConvNextBlock", "aten.layer_norm.default"),
        ("UnflattenedChannels", "aten.unflatten.int"),
    ],
)
def test_forgotten_literal(monkeypatch, name, op):
    kept = {key: value for key, value in literals._REWRITES.items() if key != op}
    assert len(kept) == len(literals._REWRITES) - 1
    monkeypatch.setattr(literals, "_REWRITES", kept)
    network = network_of(name)
    statuses = ("free", "approximate")
    assert_red(network, half_edit(channel_groups(network), 2, statuses))


def test_forgotten_literal_is_refused_before_it_is_run(monkeypatch):
    """The shape check alone stops what the test above lets through."""
    monkeypatch.setattr(literals, "_REWRITES", {})
    network = network_of("ViewHead")
    with pytest.raises(Exception, match="the tensors do not fit the graph"):
        apply_edit(network, half_edit(channel_groups(network), 2))


def test_index_select_in_the_old_order(monkeypatch):
    right = indices.kept_index
    monkeypatch.setattr(apply, "kept_index", lambda *args: np.sort(right(*args)))
    network = network_of("Permuted")
    assert_red(network, half_edit(channel_groups(network), 1))


def test_index_select_off_by_one(monkeypatch):
    def shifted(cut, labels, index):
        return (right(cut, labels, index) + 1) % len(cut.kept(labels))

    right = indices.kept_index
    monkeypatch.setattr(apply, "kept_index", shifted)
    network = network_of("ShuffleUnits")
    assert_red(network, random_edit(channel_groups(network), 1, least=1))


@pytest.mark.parametrize("name", ["PaddedUnevenly", "PaddedTwice"])
def test_padding_on_the_wrong_side(monkeypatch, name):
    def other_side(cut, node, args):
        op, changed = right(cut, node, args)
        *pixels, before, after = changed["pad"]
        return op, {"pad": (*pixels, after, before)}

    right = literals._REWRITES["aten.pad.default"]
    patched = {**literals._REWRITES, "aten.pad.default": other_side}
    monkeypatch.setattr(literals, "_REWRITES", patched)
    network = network_of(name)
    assert_red(network, half_edit(channel_groups(network), 3))


def test_operands_that_are_not_tied():
    """A sum whose operands keep as many channels, but other ones."""

    def untied(walk, node, args):
        return walk.labels(args["self"])

    network = network_of("SharedInput")
    rules = {"aten.add.Tensor": untied}
    channels = channel_groups(network, rules)
    names = [group.name for group in channels.prunable if group.name.startswith(("left", "right"))]
    assert len(names) == 2
    edit = Edit({name: np.array([i, i + 1, 4]) for i, name in enumerate(names)})
    assert_red(network, edit, rules)
