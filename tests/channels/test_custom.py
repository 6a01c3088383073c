"""Operators of the caller's own: allowed by name, with a rule, and proven like the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import nnslim
from nnslim.artifact import save_network
from nnslim.channels import channel_groups
from nnslim.errors import UnsupportedModelError, VerificationError
from nnslim.network import Network, trace_network
from nnslim.pruning import PruneConfig, SaliencyConfig, prune_network
from tests.laws.made import move_statistics

NAME = "nnslimtest::bend"
OP = "nnslimtest.bend.default"


@pytest.fixture(scope="module", autouse=True)
def registered():
    @torch.library.custom_op(NAME, mutates_args=())
    def bend(x: Tensor, slope: Tensor) -> Tensor:
        return torch.where(x > 0, x, x * slope.view(-1, 1, 1))

    bend.register_fake(lambda x, slope: torch.empty_like(x))


class Bend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.linspace(0.1, 0.8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.nnslimtest.bend(x, self.slope)


def rule(walk, node, args):
    labels = walk.labels(args["x"])
    walk.tie(labels[1], walk.labels(args["slope"])[0])
    return labels


def traced(chosen=rule) -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Bend(), nn.Conv2d(8, 4, 3))
    example = torch.zeros(2, 3, 8, 8)
    return trace_network(move_statistics(model), example, operators={OP: chosen})


def half(network: Network):
    return prune_network(network, config=PruneConfig(saliency=SaliencyConfig("magnitude")))


def test_it_is_cut_saved_and_cut_again(tmp_path):
    result = half(traced())
    assert channel_groups(result.network)["0"].layers == ("0", "1", "2")
    assert result.network.tensor("1.slope").shape == (3,)
    save_network(result.network, tmp_path / "net.safetensors")
    again = nnslim.load(tmp_path / "net.safetensors", operators={OP: rule})
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(images), result.network(images))
    assert half(again).plan.after.params < result.plan.after.params


def test_a_file_alone_allows_nothing(tmp_path):
    save_network(traced(), tmp_path / "net.safetensors")
    with pytest.raises(UnsupportedModelError, match=r"nnslimtest\.bend\.default.*operators="):
        nnslim.load(tmp_path / "net.safetensors")
    with pytest.raises(UnsupportedModelError, match="does not know"):
        trace_network(nn.Sequential(nn.Conv2d(3, 8, 3), Bend()), torch.zeros(2, 3, 8, 8))


def test_a_wrong_rule_is_an_error():
    def backwards(walk, node, args):
        labels = walk.labels(args["x"])
        walk.tie(labels[1], walk.labels(args["slope"])[0][::-1])
        return labels

    with pytest.raises(VerificationError, match=r"nnslimtest\.bend"):
        half(traced(backwards))
