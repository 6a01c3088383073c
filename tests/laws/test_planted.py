"""The laws can fail: bugs planted into the engine turn law 1 red, in the oracle and at run time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from nnslim.channels import channel_groups
from nnslim.channels.rules import DEFAULT_RULES
from nnslim.errors import VerificationError
from nnslim.network import Network
from nnslim.network.operators import family_of
from nnslim.settings.prune import Shrink
from nnslim.surgery import Edit, apply, apply_edit, indices, literals, rebuild, verify_cut
from tests.laws.made import half_edit, random_edit
from tests.laws.reference import LawBrokenError, block_columns, check_law_1, kept_indices
from tests.laws.test_freezing import MIXING, Middle, traced
from tests.laws.zoo import network_of


def assert_red(network: Network, edit: Edit, rules=None, shrink: Shrink = "auto") -> None:
    """The edit goes through, and both checks of law 1 refuse the result."""
    channels = channel_groups(network, rules, shrink)
    cut = apply_edit(network, edit, channels)
    with pytest.raises(LawBrokenError):
        check_law_1(network, cut, channels, edit.keep)
    # Where not even the shapes fit, the cut network does not run at all.
    with pytest.raises((VerificationError, RuntimeError)):
        verify_cut(network, cut, channels, edit)


@pytest.fixture
def no_shape_check(monkeypatch):
    """Let edits with wrong shapes through, which ``apply_edit`` refuses by itself."""
    monkeypatch.setattr(rebuild, "check_shapes", lambda *_: None)


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


@pytest.mark.usefixtures("no_shape_check")
@pytest.mark.parametrize("name", ["SplitInOrder", "ChunkFour", "CrossStage"])
def test_dropped_offset_of_a_split(name):
    """Every piece is taken to begin where the first one does."""
    network = network_of(name)
    op = next(node.op for node in network.graph.nodes if isinstance(node.value, tuple))

    def from_the_start(walk, node, args):
        (source,) = (along for along in walk.labels(args["self"]) if along is not None)
        return tuple(
            tuple(None if along is None else source[: len(along)] for along in piece)
            for piece in DEFAULT_RULES[op](walk, node, args)
        )

    channels = channel_groups(network, {op: from_the_start})
    assert_red(network, half_edit(channels, 1), {op: from_the_start})


@pytest.mark.usefixtures("no_shape_check")
@pytest.mark.parametrize("name", ["WholeResidualGroup", "SharedInput"])
def test_swapped_inputs_and_outputs(name):
    """A convolution's weight is read the wrong way round; square ones fit all the same."""

    def swapped(walk, node, args):
        (_, channels, *_), (out, own, *_) = walk.labels(args["input"]), walk.labels(args["weight"])
        square = len(set(walk.shape(args["weight"])[:2])) == 1
        walk.tie(channels, out if square else own)
        return (None, own if square else out, None, None)

    network = network_of(name)
    rules = {"aten.conv2d.default": swapped}
    assert_red(network, half_edit(channel_groups(network, rules), 1), rules)


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
        ("RootMeanSquare", "aten.rms_norm.default"),
        ("WholeNormGroups", "aten.group_norm.default"),
        ("Transposed", "aten.conv_transpose2d.input"),
        ("FusedAttention", "aten.scaled_dot_product_attention.default"),
    ],
)
def test_forgotten_literal(monkeypatch, name, op):
    kept = {key: value for key, value in literals._REWRITES.items() if key != family_of(op)}
    assert len(kept) == len(literals._REWRITES) - 1
    monkeypatch.setattr(literals, "_REWRITES", kept)
    network = network_of(name)
    statuses = ("free", "approximate")
    assert_red(network, half_edit(channel_groups(network), 2, statuses))


@pytest.mark.usefixtures("no_shape_check")
def test_forgotten_size_of_an_expanded_gate(monkeypatch):
    kept = {k: v for k, v in literals._REWRITES.items() if k != "expand"}
    monkeypatch.setattr(literals, "_REWRITES", kept)
    network = traced(Middle(MIXING["expanded gate"]))
    assert_red(network, half_edit(channel_groups(network), 2))


def test_forgotten_literal_is_refused_before_it_is_run(monkeypatch):
    """The shape check alone stops what the test above lets through."""
    monkeypatch.setattr(literals, "_REWRITES", {})
    network = network_of("ViewHead")
    with pytest.raises(Exception, match="the tensors do not fit the graph"):
        apply_edit(network, half_edit(channel_groups(network), 2))


def test_index_select_in_the_old_order(monkeypatch):
    right = indices.kept_index
    monkeypatch.setattr(rebuild, "kept_index", lambda *args: np.sort(right(*args)))
    network = network_of("Permuted")
    assert_red(network, half_edit(channel_groups(network), 1))


def test_index_select_off_by_one(monkeypatch):
    def shifted(cut, labels, index):
        return (right(cut, labels, index) + 1) % len(cut.kept(labels))

    right = indices.kept_index
    monkeypatch.setattr(rebuild, "kept_index", shifted)
    network = network_of("ShuffleUnits")
    assert_red(network, random_edit(channel_groups(network), 1, least=1))


@pytest.mark.parametrize("name", ["PaddedUnevenly", "PaddedTwice"])
def test_padding_on_the_wrong_side(monkeypatch, name):
    def other_side(cut, node, args):
        op, changed = right(cut, node, args)
        *pixels, before, after = changed["pad"]
        return op, {"pad": (*pixels, after, before)}

    right = literals._REWRITES["pad"]
    patched = {**literals._REWRITES, "pad": other_side}
    monkeypatch.setattr(literals, "_REWRITES", patched)
    network = network_of(name)
    assert_red(network, half_edit(channel_groups(network), 3))


def test_another_group_s_channels_in_a_grouped_convolution(monkeypatch):
    """Each convolution group reads other channels; as many are left of each."""
    right = apply._slice_blocks
    monkeypatch.setattr(apply, "_slice_blocks", lambda w, cut, labels: right(w, cut, labels[::-1]))
    network = network_of("WithinConvolutionGroups")
    assert_red(network, random_edit(channel_groups(network), 1))


@pytest.mark.parametrize("name", ["ManyHeads", "SeparateAttention", "FusedAttention", "SharedKeys"])
def test_heads_off_by_one(name):
    """One layer at a time keeps its heads' neighbours, whole heads and nothing less."""
    network = network_of(name)
    channels = channel_groups(network, shrink="whole")
    (group,) = (g for g in channels.prunable if g.name in ("q", "qkv"))
    assert group.members[0].positions.shape[1] > 1
    edit = Edit({group.name: np.arange(group.width - 1)})
    right = apply_edit(network, edit, channels)
    n_planted = 0
    for member in group.members:
        heads = np.roll(member.positions, -1, axis=0)[edit.keep[group.name]]
        gone = np.setdiff1d(member.positions, member.positions[edit.keep[group.name]])
        assert np.intersect1d(heads, gone).size
        rest = np.setdiff1d(
            np.arange(network.tensor(member.tensor).shape[member.dim]), member.positions
        )
        wrong = np.sort(np.concatenate([heads.ravel(), rest]))
        cut = copy.deepcopy(right)
        with torch.no_grad():
            taken = _gathered(network.tensor(member.tensor), {member.dim: torch.from_numpy(wrong)})
            cut.tensor(member.tensor).copy_(taken)
        with pytest.raises(LawBrokenError):
            check_law_1(network, cut, channels, edit.keep)
        with pytest.raises(VerificationError):
            verify_cut(network, cut, channels, edit)
        n_planted += 1
    assert n_planted >= 3
    check_law_1(network, right, channels, edit.keep)


def test_queries_and_keys_that_are_not_tied():
    """Attention whose queries and keys keep as many positions, but other ones."""
    op = "aten.scaled_dot_product_attention.default"

    def untied(walk, node, args):
        return walk.labels(args["value"])

    network = network_of("SharedKeys")
    channels = channel_groups(network, {op: untied}, shrink="within")
    q, k = (channels[n] for n in ("q", "k"))
    edit = Edit({"q": np.arange(q.width - 1), "k": np.arange(1, k.width)})
    assert_red(network, edit, {op: untied}, "within")


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
