"""Nothing may be silently wrong: no rule means frozen, with the operator in the reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnslim.channels import ChannelMap, channel_groups
from nnslim.errors import ConfigError
from nnslim.network import Network, trace_network
from nnslim.surgery import Edit, apply_edit, verify_cut
from tests.laws.blocks import Net, conv, conv_bn
from tests.laws.made import move_statistics, random_edit
from tests.laws.reference import check_law_1


class Middle(Net):
    """Eight channels, something done to them, and a convolution that reads the result."""

    def __init__(self, function: Callable[[Tensor], Tensor], n_out: int = 8) -> None:
        super().__init__(6)
        self.stem, self.last, self.function = conv_bn(3, 8), conv_bn(n_out, 6), function

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.last(self.function(self.stem(x))))


def _attention(y: Tensor) -> Tensor:
    z = y.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(z, z, z).transpose(1, 2).reshape(y.shape)


def _gram(y: Tensor) -> Tensor:
    z = y.flatten(2)
    return (torch.matmul(z, z.transpose(1, 2)).softmax(-1) @ z).view(y.shape)


def _eca(y: Tensor) -> Tensor:
    gate = F.avg_pool1d(y.mean((2, 3)).unsqueeze(1), 3, 1, 1)
    return y * gate.transpose(1, 2).unsqueeze(-1)


def _written(y: Tensor) -> Tensor:
    z = y * 2
    z[:, :] = y
    return z


def _recurrent(y: Tensor) -> Tensor:
    weights = [torch.full((32, 8), 0.1), torch.full((32, 8), 0.1)]
    tokens, zero = y.flatten(2).transpose(1, 2), y.mean((2, 3)).unsqueeze(0)
    out = torch.lstm(tokens, (zero, zero), weights, False, 1, 0.0, False, False, True)[0]
    return out.transpose(1, 2).reshape(y.shape)


MATRIX, MIXER = torch.eye(8).roll(3, 0) - 0.5, torch.eye(64).roll(3, 0)
FREEZING: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "max.dim": (lambda y: y * y.max(1, keepdim=True)[0], 8),
    "argmax": (lambda y: y * y.argmax(1, keepdim=True), 8),
    "topk": (lambda y: y.topk(8, 1)[0], 8),
    "cumsum": (lambda y: y.cumsum(1), 8),
    "avg_pool3d": (lambda y: F.local_response_norm(y, 2), 8),
    "avg_pool1d": (_eca, 8),
    "unbind": (lambda y: torch.stack(y.unbind(1)[::-1], 1), 8),
    "pad": (lambda y: F.pad(F.pad(y, (0, 0, 0, 0, -1, 0)), (0, 0, 0, 0, 0, 1)), 8),
    "copy_": (_written, 8),
    "add": (lambda y: y + torch.arange(8.0).view(8, 1, 1), 8),
    "index.Tensor": (lambda y: y[:, torch.tensor([[1, 0], [2, 3]])].flatten(1, 2), 4),
    "lstm.input": (_recurrent, 8),
}
CUT: dict[str, tuple[Callable[[Tensor], Tensor], int, str]] = {
    "softmax": (lambda y: y.softmax(1), 8, "approximate"),
    "mean": (lambda y: y - y.mean(1, keepdim=True), 8, "approximate"),
    "amax": (lambda y: y * y.amax(1, keepdim=True), 8, "approximate"),
    "var_mean": (
        lambda y: y * torch.var_mean(y, dim=(1,), correction=1, keepdim=True)[0],
        8,
        "approximate",
    ),
    "logsumexp": (lambda y: y * y.logsumexp(1, keepdim=True), 8, "approximate"),
    "group_norm": (lambda y: F.group_norm(y, 2), 8, "approximate"),
    "group_norm.whole": (lambda y: F.group_norm(y, 4), 8, "free"),
    "gram": (_gram, 8, "approximate"),
    "flip": (lambda y: y.flip(1), 8, "free"),
    "roll": (lambda y: y.roll(1, 1), 8, "free"),
    "vector_norm": (lambda y: F.normalize(y, dim=1), 8, "free"),
    "instance_norm": (F.instance_norm, 8, "free"),
    "pixel_shuffle": (lambda y: F.pixel_shuffle(y, 2), 2, "free"),
    "channel_shuffle": (lambda y: F.channel_shuffle(y, 2), 8, "free"),
    "attention": (_attention, 8, "free"),
    "einsum": (lambda y: torch.einsum("nchw,nc->nchw", y, y.mean((2, 3))), 8, "free"),
    "repeat": (lambda y: y.repeat(1, 2, 1, 1), 16, "free"),
    "repeat_interleave": (lambda y: y.repeat_interleave(2, 1), 16, "free"),
    "glu": (lambda y: F.glu(y, 1), 4, "free"),
    "slice": (lambda y: y[:, ::2], 4, "free"),
    "index": (lambda y: y[:, [1, 0, 2, 3, 4, 5, 7, 6]], 8, "free"),
    "im2col": (lambda y: F.unfold(y, 3, padding=1).view(-1, 72, 8, 8), 72, "free"),
    "where": (lambda y: torch.where(y > 0, y, y * 0.1), 8, "free"),
    "unfold": (lambda y: y.unfold(2, 2, 2).sum(-1), 8, "free"),
}


def traced(module: nn.Module) -> Network:
    torch.manual_seed(0)
    return trace_network(move_statistics(module), torch.randn(2, 3, 8, 8))


def _check_random_cuts(network: Network) -> None:
    channels = channel_groups(network)
    for seed in (1, 2):
        edit = random_edit(channels, seed)
        cut = apply_edit(network, edit, channels)
        assert check_law_1(network, cut, channels, edit.keep).says_something
        verify_cut(network, cut, channels, edit)


@pytest.mark.parametrize("name", FREEZING)
def test_no_rule_means_frozen(name):
    function, n_out = FREEZING[name]
    network = traced(Middle(function, n_out))
    channels = channel_groups(network)
    stem = [group for group in channels.groups if group.name.split("#")[0] == "stem.0"]
    assert {group.status for group in stem} == {"frozen"}
    assert all(name in group.reason for group in stem), [group.reason for group in stem]
    assert channels["last.0"].status == "free"
    with pytest.raises(ConfigError, match="cannot be cut"):
        apply_edit(network, Edit({stem[0].name: np.array([0])}), channels)
    _check_random_cuts(network)


@pytest.mark.parametrize("name", CUT)
def test_what_runs_over_channels_can_be_cut(name):
    function, n_out, status = CUT[name]
    network = traced(Middle(function, n_out))
    channels = channel_groups(network)
    stem = [group for group in channels.groups if group.name.split("#")[0] == "stem.0"]
    assert status in {group.status for group in stem}
    assert {group.status for group in stem} <= {status, "frozen"}
    _check_random_cuts(network)


def test_writing_into_a_slice_freezes_both_sides_only():
    def write(y: Tensor) -> Tensor:
        z = y * 2
        z[:, :3] = y[:, 3:6]
        return z

    channels = channel_groups(traced(Middle(write)))
    free = [g for g in channels.prunable if g.name.startswith("stem.0")]
    assert [member.positions[:, 0].tolist() for g in free for member in g.members[:1]] == [[6, 7]]


def test_inputs_and_outputs_are_frozen_with_their_reason():
    channels = channel_groups(traced(Middle(lambda y: y)))
    assert channels["stem.0.in"].reason.startswith("meets a fixed size at aten.conv2d.default")
    assert channels["head"].reason == "network output"


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens": lambda y: F.linear(y.flatten(2), MIXER).view(y.shape),
    "pixel softmax": lambda y: y.flatten(2).softmax(-1).view(y.shape),
    "deviation": lambda y: y - y.var((2, 3), keepdim=True).sqrt(),
    "reflected pixels": lambda y: F.pad(y, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1],
    "choice": lambda y: torch.where(y.sum(1, keepdim=True) > 0, y, -y),
    "integers": lambda y: y * (y > 0).int(),
    "position": lambda y: y + MATRIX,
    "expanded gate": lambda y: y * y.mean((2, 3), keepdim=True).expand(y.shape[0], 8, 8, 8),
    "in place": lambda y: y.view(y.shape[0], 2, 4, 8, 8).relu_().view(y.shape) + y.add_(1),
    "dropout": lambda y: F.dropout2d(F.dropout(y, training=False), training=False),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_works_on_pixels_freezes_no_channel(name):
    network = traced(Middle(MIXING[name]))
    assert "stem.0" in {group.name for group in channel_groups(network).prunable}
    _check_random_cuts(network)


def test_grouped_convolution_of_swapped_halves():
    class Swapped(Middle):
        def __init__(self) -> None:
            super().__init__(lambda y: torch.cat([y[:, 4:], y[:, :4]], 1))
            grouped = nn.Conv2d(8, 12, 3, groups=4, padding="same")
            self.last = nn.Sequential(grouped, nn.Conv2d(12, 6, 1))

    network = traced(Swapped())
    channels = channel_groups(network)
    # Two convolution groups in each half, and each half must keep one.
    assert (channels["stem.0"].width, channels["stem.0#2"].width) == (2, 2)
    _check_random_cuts(network)


def test_frozen_stays_frozen_after_an_edit():
    network = traced(Middle(lambda y: y.cumsum(1)))
    channels: ChannelMap = channel_groups(network)
    cut = apply_edit(network, random_edit(channels, 1), channels)
    assert channel_groups(cut)["stem.0"].status == "frozen"


def test_two_labelled_dimensions_that_are_merged():
    """Tokens times channels in one linear layer: one of the two stays."""

    class Merged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.mix = conv(3, 8), nn.Linear(64, 6)
            self.head = nn.Linear(48, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.leaky_relu(self.mix(self.stem(x).flatten(2))).flatten(1))

    network = traced(Merged())
    groups = channel_groups(network)
    assert {groups["stem"].status, groups["mix"].status} == {"free", "frozen"}
    assert any("two channel dimensions are merged" in (g.reason or "") for g in groups.groups)
    _check_random_cuts(network)
