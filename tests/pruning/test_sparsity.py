"""Sparse training: what is added to the gradients of a whole network, and how strong it is."""

from __future__ import annotations

import copy
import json
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.channels import channel_groups
from nnslim.errors import ConfigError
from nnslim.network import Network, trace_network
from nnslim.pruning.sparse.penalty import HierarchicalSparsity, removed_channels
from nnslim.settings.prune import Penalty, RegularizerConfig, Shrink
from nnslim.surgery import Edit
from nnslim.train.records import GradientPenalty
from tests.laws.strategies import networks
from tests.network.nets import NETS, images, traced
from tests.pruning.formulas import FORMULAS, kernels_of, slices_of

NAMES = get_args(Penalty)
SIDES = {"feature": ("feature",), "neuron": ("neuron",), "both": ("feature", "neuron")}


def config(name="group_lasso", axis="feature", **more) -> RegularizerConfig:
    """The formula alone at strength 1, with a floor far below every weight."""
    return RegularizerConfig(name, axis, **{"balance": 1.0, "strength": 1.0, "floor": 1e-12} | more)


def gradients(network: Network) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def added(network: Network, penalty: HierarchicalSparsity, step=0, steps=1) -> dict[str, Tensor]:
    """What one step adds to the gradients, by parameter."""
    before = {name: gradient.clone() for name, gradient in gradients(network).items()}
    penalty.start_epoch(network, 0, 1)
    penalty.add_(network, step, steps)
    return {name: own - before.get(name, 0) for name, own in gradients(network).items()}


def backward(network: Network, seed: int = 3) -> None:
    network.zero_grad()
    x = images(4, seed).to(next(network.parameters()).dtype)
    F.cross_entropy(network(x), torch.arange(4)).backward()


def oracle(
    network: Network, settings: RegularizerConfig, share=None, shrink="auto"
) -> tuple[Tensor, Tensor]:
    """Hierarchical penalty and L1 norm over free groups, layer by layer, kernel by kernel."""
    tensors, hierarchical, plain = network.tensors(), [], []
    for group in channel_groups(network, shrink=shrink).groups:
        if group.status != "free":
            continue
        for side in SIDES[settings.axis]:
            members = slices_of(network, group, side)
            for channel in range(group.width):
                kernels = [k for m in members for k in kernels_of(tensors[m.tensor], m, channel)]
                factor = 1.0 if share is None else float(share[group.name][channel])
                if kernels:
                    hierarchical.append(factor * FORMULAS[settings.name](kernels))
                    plain.append(factor * sum(k.abs().sum() for k in kernels))
    return torch.stack(hierarchical).sum(), torch.stack(plain).sum()


def assert_same_as_oracle(
    network: Network, settings: RegularizerConfig, shrink: Shrink = "auto"
) -> None:
    channels = channel_groups(network, shrink=shrink)
    penalty = HierarchicalSparsity(network, channels, settings)
    hierarchical, plain = oracle(network, settings, shrink=shrink)
    balance = settings.balance
    total = balance * hierarchical + (1 - balance) * plain
    expected = {"hierarchical": hierarchical.item(), "l1": plain.item(), "total": total.item()}
    assert penalty.penalty_value(network) == pytest.approx(expected, rel=1e-10)
    network.zero_grad()
    total.backward()
    by_autograd = {name: gradient.clone() for name, gradient in gradients(network).items()}
    network.zero_grad()
    found = added(network, penalty)
    assert set(found) == set(by_autograd)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, by_autograd[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axis", SIDES)
@pytest.mark.parametrize("name", NAMES)
def test_all_nine_are_the_formula_kernel_by_kernel(name, axis):
    """Residual: one stream that several layers read and write; Plain: flattened channels."""
    for net in ("Residual", "Plain"):
        assert_same_as_oracle(traced(net).double(), config(name, axis, balance=0.3))


@pytest.mark.parametrize("net", sorted(NETS))
def test_every_kind_of_layer(net):
    """Grouped and depthwise convolutions, concatenations, shuffles, channels last."""
    for name in ("hierarchical_squared_group_l12", "hierarchical_sqrt_group_lasso"):
        assert_same_as_oracle(traced(net).double(), config(name, "both", balance=0.5))


@pytest.mark.parametrize("axis", SIDES)
def test_inputs_of_a_convolution_that_keeps_its_groups(axis):
    """Position p of its weight means another channel in every group of rows."""
    network = traced("Shuffle").double()
    free = [g for g in channel_groups(network, shrink="within").groups if g.status == "free"]
    assert any(m.blocks is not None for g in free for m in slices_of(network, g, "feature"))
    for name in ("group_lasso", "hierarchical_squared_exclusive"):
        assert_same_as_oracle(network, config(name, axis, balance=0.5), "within")


@settings(max_examples=6)
@given(networks(), st.sampled_from(NAMES), st.sampled_from(sorted(SIDES)))
def test_random_networks(model, name, axis):
    network = trace_network(model, torch.zeros(2, 3, 8, 8)).double()
    free = [g for g in channel_groups(network).groups if g.status == "free"]
    if any(slices_of(network, g, side) for g in free for side in SIDES[axis]):
        assert_same_as_oracle(network, config(name, axis, balance=0.5))


def test_a_stream_is_one_channel_in_all_layers_that_read_it():
    """By hand: channel c of the stem is column c of a1 and b1, and column c + 2 of the head."""
    network = traced("Residual").double()
    penalty = HierarchicalSparsity(network, channel_groups(network), config("group_lasso"))
    found = added(network, penalty)
    weights = {name: network.tensor(f"{name}.weight").detach() for name in ("a1", "b1", "head")}
    for c in range(4):
        parts = [weights["a1"][:, c], weights["b1"][:, c], weights["head"][:, c + 2]]
        norm = sum(part.square().sum() for part in parts).sqrt()
        columns = [found["a1.weight"][:, c], found["b1.weight"][:, c]]
        for column, part in zip([*columns, found["head.weight"][:, c + 2]], parts, strict=True):
            torch.testing.assert_close(column, part / norm)


def test_below_the_floor_by_hand():
    """Every weight of the classifier is half a floor: 4 kernels of 9 pixels for each channel.

    2 * (4 * sqrt(9 f / 2)) * 0.5 / sqrt(9 f), by the outer and the inner function, times a sign
    that has faded to a half.
    """
    network = traced("Plain").double()
    weight = network.tensor("head.weight").detach()
    weight.copy_(weight.sign() * 1e-3)  # so this is its root mean square
    settings = config("hierarchical_squared_group_l12", floor=2.0)
    found = added(network, HierarchicalSparsity(network, channel_groups(network), settings))
    expected = weight.sign() * (4 * 0.5**0.5 * 0.5)
    torch.testing.assert_close(found["head.weight"], expected)


def test_channels_that_must_stay_are_not_touched():
    """The image's channels, the logits, and those that a norm runs over."""
    network = traced("Normed").double()
    channels = channel_groups(network)
    penalty = HierarchicalSparsity(network, channels, config(axis="both"))
    assert penalty.groups == ("up",)
    assert set(added(network, penalty)) == {"up.weight", "down.weight"}
    approximate = HierarchicalSparsity(
        network, channels, config(axis="both"), groups=["stem", "up"]
    )
    assert approximate.groups == ("stem", "up")
    assert "stem.weight" in added(network, approximate)


def test_what_cannot_be_penalised_is_said():
    network = traced("Plain")
    channels = channel_groups(network)
    with pytest.raises(ConfigError, match="no channel group 'conv9'"):
        HierarchicalSparsity(network, channels, config(), groups=["conv9"])
    with pytest.raises(ConfigError, match="head stays whole: network output"):
        HierarchicalSparsity(network, channels, config(), groups=["head"])
    network.tensor("conv2.weight").requires_grad_(requires_grad=False)
    penalty = HierarchicalSparsity(network, channels, config())
    assert penalty.left_out == {"conv1": "no trainable weight reads its channels"}
    assert set(added(network, penalty)) == {"head.weight"}
    network.tensor("head.weight").requires_grad_(requires_grad=False)
    with pytest.raises(ConfigError, match="no channel to penalise; conv1: no trainable"):
        HierarchicalSparsity(network, channels, config())


@pytest.mark.parametrize("strength", ["auto", 0.1])
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 1e-25, 1e-12])
@pytest.mark.parametrize("name", NAMES)
def test_zero_and_tiny_weights_give_finite_gradients(name, size, strength):
    """In single precision: a kernel, a channel and then a whole layer next to zero."""
    network = traced("Residual")
    settings = RegularizerConfig(name, "both", balance=0.5, strength=strength)
    penalty = HierarchicalSparsity(network, channel_groups(network), settings)
    backward(network)
    weight = network.tensor("a2.weight").detach()
    for part in (weight[0, 0], weight[:, 1], weight[:]):
        part.copy_(part.sign() * size)
        found = added(network, penalty)
        assert all(gradient.isfinite().all() for gradient in found.values())
        if size == 0.0:
            assert not found["a2.weight"][weight == 0].any()


@pytest.mark.parametrize("strength", ["auto", 0.1])
def test_no_gradient_of_the_loss_is_a_gradient_of_zero(strength):
    """Neither a parameter that the loss does not reach nor a loss without slope is an error."""
    network = traced("Plain")
    settings = config(strength=strength)
    penalty = HierarchicalSparsity(network, channel_groups(network), settings)
    missing = added(network, penalty)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    penalty.restore({})
    flat = added(network, penalty)
    for name, gradient in missing.items():
        assert gradient.isfinite().all()
        assert torch.equal(gradient, flat[name])
        assert bool(gradient.any()) == (strength != "auto")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_without_a_finite_gradient_leaves_the_strength_alone(bad):
    """Mixed precision skips such a step."""
    network = traced("Plain")
    penalty = HierarchicalSparsity(network, channel_groups(network), config(strength="auto"))
    good = 0.0
    for number in (0, 1, 2):
        backward(network)
        if number != 1:
            penalty.add_(network, number, 3)
            good = penalty.state()["loss_norm"]
            continue
        network.tensor("head.weight").grad[0, 0] = bad
        penalty.add_(network, number, 3)
        assert penalty.state()["loss_norm"] == good
    assert good > 0
    first = HierarchicalSparsity(network, channel_groups(network), config(strength="auto"))
    network.tensor("head.weight").grad[0, 0] = bad
    first.add_(network, 0, 3)
    assert first.state() == {"loss_norm": 0.0}


def norm(found: dict[str, Tensor], names) -> float:
    return float(torch.cat([found[name].flatten() for name in sorted(names)]).norm())


@pytest.mark.parametrize("name", NAMES)
def test_auto_holds_the_ratio_of_the_two_gradients(name):
    """On the first step exactly, then against the loss's smoothed norm; growing linearly."""
    network = traced("Residual").double()
    settings = RegularizerConfig(name, "both", ratio=0.8, growth=0.75, floor=1e-12)
    penalty = HierarchicalSparsity(network, channel_groups(network), settings)
    smooth = None
    for step in range(4):
        backward(network, seed=step)
        reference = {name: own.clone() for name, own in gradients(network).items()}
        found = added(network, penalty, step, 4)
        touched = [name for name, own in found.items() if own.any()]
        now = norm(reference, touched)
        smooth = now if smooth is None else 0.9 * smooth + 0.1 * now
        expected = 0.8 * (0.25 + 0.75 * (step + 1) / 4) * smooth
        assert norm(found, touched) == pytest.approx(expected, rel=1e-9)
        assert penalty.state() == {"loss_norm": pytest.approx(smooth, rel=1e-12)}
        with torch.no_grad():
            network.tensor("a1.weight").mul_(0.9)


@pytest.mark.parametrize("name", NAMES)
def test_auto_gives_both_parts_their_share_whatever_their_size(name):
    network = traced("Residual").double()
    channels = channel_groups(network)

    def direction(**more) -> dict[str, Tensor]:
        backward(network)
        found = added(network, HierarchicalSparsity(network, channels, config(name, **more)))
        names = [name for name, own in found.items() if own.any()]
        return {name: found[name] / norm(found, names) for name in names}

    pure, plain = direction(), direction(balance=0.0)
    mixed = direction(strength="auto", balance=0.25)
    sums = {name: 0.25 * pure[name] + 0.75 * plain[name] for name in pure}
    length = norm(sums, sums)
    for key, own in mixed.items():
        torch.testing.assert_close(own, sums[key] / length, rtol=1e-9, atol=1e-12)


def test_the_focus_decides_which_channels_are_pulled():
    network = traced("Residual").double()
    channels = channel_groups(network)
    plain = added(network, HierarchicalSparsity(network, channels, config()))
    asked = []

    def focus(given: nn.Module, epoch: int, epochs: int) -> dict[str, np.ndarray]:
        asked.append((given is network, epoch, epochs))
        none = {group.name: np.zeros(group.width) for group in channels.prunable}
        return none | {"a1": np.array([0, 2, 0, 1, 0, 0.5])}

    network.zero_grad()
    penalty = HierarchicalSparsity(network, channels, config(), focus)
    found = added(network, penalty)
    factors = torch.tensor([0, 2, 0, 1, 0, 0.5]).double()
    torch.testing.assert_close(
        found["a2.weight"], plain["a2.weight"] * factors[:, None, None], rtol=1e-12, atol=0
    )
    for name in set(found) - {"a2.weight"}:
        assert not found[name].any(), name
    assert asked == [(True, 0, 1)]
    assert penalty.weights["a1"].tolist() == [0, 2, 0, 1, 0, 0.5]
    value = penalty.penalty_value(network)["hierarchical"]
    assert value == pytest.approx(oracle(network, config(), penalty.weights)[0].item())


@pytest.mark.parametrize("strength", ["auto", 1.0])
def test_a_focus_on_nothing_adds_nothing(strength):
    network = traced("Residual")
    channels = channel_groups(network)
    none = removed_channels(Edit({}), channels)
    penalty = HierarchicalSparsity(network, channels, config(strength=strength), lambda *_: none)
    backward(network)
    assert not any(own.any() for own in added(network, penalty).values())


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "says nothing about conv1"),
        ({"conv1": np.ones(5)}, r"conv1 must be 6 finite numbers .* shape \(5,\)"),
        ({"conv1": np.full(6, -1.0)}, "conv1 must be 6 finite numbers of 0 or more"),
        ({"conv1": np.full(6, np.nan)}, "conv1 must be 6 finite numbers of 0 or more"),
    ],
)
def test_an_impossible_focus_is_refused(given, problem):
    network = traced("Plain")
    penalty = HierarchicalSparsity(network, channel_groups(network), config(), lambda *_: given)
    with pytest.raises(ConfigError, match=problem):
        penalty.start_epoch(network, 0, 1)


def test_removed_channels_are_those_that_an_edit_does_not_keep():
    channels = channel_groups(traced("Plain"))
    found = removed_channels(Edit({"conv1": np.array([0, 3, 4])}), channels)
    assert {name: own.tolist() for name, own in found.items()} == {
        "conv1": [0, 1, 1, 0, 0, 1],
        "conv2": [0, 0, 0, 0, 0],
    }


def permuted(network: Network, seed: int) -> Network:
    """Every free group's channels in another order, in all of the group's tensors."""
    twin, generator = copy.deepcopy(network), np.random.default_rng(seed)
    for group in channel_groups(network).prunable:
        order = generator.permutation(group.width)
        for member in group.members:
            tensor = twin.tensor(member.tensor).detach()
            places = member.positions, member.positions[order]
            there, here = (torch.from_numpy(own.ravel()) for own in places)
            tensor.index_copy_(member.dim, there, tensor.index_select(member.dim, here))
    return twin


@pytest.mark.parametrize("name", NAMES)
def test_permuted_channels_have_permuted_gradients(name):
    """Reordering is done to the weights, and to a network that holds their gradients."""
    network = traced("Residual").double()
    settings = config(name, "both", balance=0.5)
    penalty = HierarchicalSparsity(network, channel_groups(network), settings)
    as_weights = copy.deepcopy(network)
    for key, own in added(network, penalty).items():
        as_weights.tensor(key).data.copy_(own)
    network.zero_grad()
    moved, expected = permuted(network, 5), permuted(as_weights, 5)
    assert not torch.equal(moved.tensor("a2.weight"), network.tensor("a2.weight"))
    for key, own in added(moved, penalty).items():
        torch.testing.assert_close(own, expected.tensor(key).detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("strength", ["auto", 1e-3])
def test_a_resumed_run_is_the_uninterrupted_one(strength):
    """The state goes through JSON; the focus is asked anew."""

    def focus(network: nn.Module, epoch: int, epochs: int) -> dict[str, np.ndarray]:
        size = network.get_parameter("conv1.weight").detach().abs().sum((1, 2, 3)).numpy()
        return {"conv1": (size < np.median(size)) * 1.0, "conv2": np.full(5, epoch / epochs)}

    def build(network: Network) -> HierarchicalSparsity:
        settings = RegularizerConfig("hierarchical_squared_group_l12", strength=strength)
        return HierarchicalSparsity(network, channel_groups(network), settings, focus)

    def epochs(network: Network, penalty: GradientPenalty, numbers: range) -> None:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for epoch in numbers:
            penalty.start_epoch(network, epoch, 4)
            for step in range(3 * epoch, 3 * epoch + 3):
                backward(network, seed=step)
                penalty.add_(network, step, 12)
                optimizer.step()

    whole, parts = traced("Plain"), traced("Plain")
    epochs(whole, build(whole), range(4))
    first = build(parts)
    epochs(parts, first, range(2))
    second = build(parts)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.identity() == first.identity()
    epochs(parts, second, range(2, 4))
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, parts.tensor(name)), name


def test_the_identity_is_plain_json_and_tells_penalties_apart():
    network = traced("Plain")
    channels = channel_groups(network)
    several = [
        HierarchicalSparsity(network, channels, config()),
        HierarchicalSparsity(network, channels, config(strength="auto")),
        HierarchicalSparsity(network, channels, config(), lambda *_: {}),
        HierarchicalSparsity(network, channels, config(), groups=["conv1"]),
    ]
    texts = [json.dumps(penalty.identity(), sort_keys=True) for penalty in several]
    assert len(set(texts)) == 4
    again = HierarchicalSparsity(traced("Plain"), channels, config())
    assert json.dumps(again.identity(), sort_keys=True) == texts[0]


def test_the_layout_of_the_weights_does_not_matter():
    plain, last = traced("Residual"), traced("Residual").to(memory_format=torch.channels_last)
    for network in (plain, last):
        backward(network)
    for network in (plain, last):
        penalty = HierarchicalSparsity(network, channel_groups(network), config("group_l12"))
        penalty.start_epoch(network, 0, 1)
        penalty.add_(network, 0, 1)
    for name, own in gradients(plain).items():
        torch.testing.assert_close(own, gradients(last)[name], rtol=1e-4, atol=1e-5)
