"""What the laws found wrong in the engine once: each failed before it was mended."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnslim.artifact import load_network, save_network
from nnslim.channels import channel_groups
from nnslim.errors import ConfigError
from nnslim.network import Network
from nnslim.surgery import Edit, apply_edit, verify_cut
from tests.laws.blocks import Net, conv_bn, shuffle
from tests.laws.made import random_edit
from tests.laws.reference import check_law_1, random_inputs
from tests.laws.test_freezing import Middle, traced


def cut_and_check(network: Network, edit: Edit) -> None:
    channels = channel_groups(network)
    cut = apply_edit(network, edit, channels)
    check_law_1(network, cut, channels, edit.keep)
    verify_cut(network, cut, channels, edit)


def cut_at_random(module: nn.Module) -> None:
    network = traced(module)
    cut_and_check(network, random_edit(channel_groups(network), 1))


@torch.no_grad()
def equals_its_model(module: nn.Module) -> None:
    network = traced(module)
    (x,) = (x.float() for x in random_inputs(network))
    assert torch.equal(network(x.clone()), module(x.clone()))


def test_the_batch_is_never_shuffled():
    def function(y: Tensor) -> Tensor:
        n = y.shape[0]
        return y.view(n, 1, 8, 8, 8).transpose(0, 1).reshape(n, 8, 8, 8)

    equals_its_model(Middle(function))


def test_a_shuffle_reads_its_source_before_it_is_overwritten():
    def function(y: Tensor) -> Tensor:
        n = y.shape[0]
        z = y.view(n, 2, 4, 8, 8).transpose(1, 2).contiguous()
        y.mul_(2.0)
        return z.view(n, 8, 8, 8)

    equals_its_model(Middle(function))


def test_a_squeeze_that_does_nothing_still_does_nothing():
    network = traced(Middle(lambda y: y.squeeze(1)))
    cut_and_check(network, Edit({"stem.0": np.array([3])}))


class Listed(Middle):
    def __init__(self) -> None:
        super().__init__(lambda y: y.index_select(1, self.order).index_select(1, self.order))
        self.register_buffer("order", torch.tensor([7, 0, 3, 1, 2, 6, 5, 4]))


def test_an_index_can_be_shared():
    cut_at_random(Listed())


def test_an_edit_that_empties_a_value_is_refused():
    def function(y: Tensor) -> Tensor:
        two, six = y.split([2, 6], 1)
        return torch.cat([six, F.max_pool2d(two, 3, 1, 1)], 1)

    network = traced(Middle(function))
    with pytest.raises(ConfigError):
        apply_edit(network, Edit({"stem.0": np.array([2, 3, 4])}))


class ReturnsParameter(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.scale = conv_bn(3, 8), nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classify(self.scale * self.stem(x)), self.scale


def test_a_returned_parameter_is_frozen():
    cut_at_random(ReturnsParameter())


class LiveNormOverTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = conv_bn(3, 8), nn.Linear(8, 6)
        self.norm, self.head = nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(y).mean(1))


def test_live_statistics_over_channels_are_approximate_or_frozen():
    cut_at_random(LiveNormOverTokens())


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.float(),
        lambda y: F.linear(y.permute(0, 2, 3, 1), torch.eye(8)).permute(0, 3, 1, 2),
    ],
    ids=["cast", "created"],
)
def test_networks_with_float32_literals_can_be_verified(function):
    cut_at_random(Middle(function))


class NormOverImage(Middle):
    def __init__(self) -> None:
        super().__init__(nn.LayerNorm([8, 8, 8]))


def test_a_norm_over_channels_and_pixels_can_be_verified():
    cut_at_random(NormOverImage())


def test_zeros_can_be_written_into_a_slice():
    def function(y: Tensor) -> Tensor:
        z = y * 2
        z[:, :3] = 0.0
        return z

    cut_at_random(Middle(function))


@pytest.mark.parametrize("name", ["classes", "preprocess", "graph", "history", "program"])
def test_a_submodule_can_have_any_name(name):
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(name, conv_bn(3, 5))

        def forward(self, x: Tensor) -> Tensor:
            return getattr(self, name)(x).mean((2, 3))

    assert f"{name}.0.weight" in traced(Named()).state_dict()


def test_a_reloaded_network_keeps_the_order_of_its_tensors(tmp_path):
    network = traced(Middle(lambda y: y))
    save_network(network, tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    assert list(again.state_dict()) == list(network.state_dict())


def test_a_group_that_a_balance_cuts_unevenly_is_tied():
    """Halves swapped and shuffled, then two convolution groups: 1 and 2 of 3 channels in each."""

    class Uneven(Net):
        def __init__(self) -> None:
            super().__init__(6)
            self.stem, self.grouped = conv_bn(3, 4), conv_bn(4, 6, groups=2)

        def forward(self, x: Tensor) -> Tensor:
            u, v = self.stem(x).split([1, 3], 1)
            return self.classify(self.grouped(shuffle(torch.cat([v, u], 1), 2)))

    network = traced(Uneven())
    for shrink in ("whole", "within", "auto"):
        channels = channel_groups(network, shrink=shrink)
        edit = random_edit(channels, 1)
        cut = apply_edit(network, edit, channels)
        check_law_1(network, cut, channels, edit.keep)
        verify_cut(network, cut, channels, edit)
