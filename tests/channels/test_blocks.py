"""Where blocks stand in their stage, known by hand for common families."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnslim.channels import Place, block_places, channel_groups, residual_streams
from nnslim.models.cifar import CifarResNet
from nnslim.network import trace_network
from nnslim.network.network import Network


def places(network: Network) -> dict[str, Place]:
    return dict(block_places(network.graph, channel_groups(network)))


def torchvision_network(name: str) -> Network:
    models = pytest.importorskip("torchvision").models
    return trace_network(models.get_model(name).eval(), torch.zeros(2, 3, 64, 64))


@pytest.mark.parametrize(("depth", "n_blocks"), [(20, 3), (32, 5)])
def test_cifar_resnets_have_three_stages(depth: int, n_blocks: int):
    network = trace_network(CifarResNet(depth).eval(), torch.zeros(2, 3, 32, 32))
    assert places(network) == {
        f"layer{stage}.{block}.conv1": (stage - 1, block, n_blocks)
        for stage in (1, 2, 3)
        for block in range(n_blocks)
    }


def test_both_inner_widths_of_a_bottleneck_stand_in_its_block():
    found = places(torchvision_network("resnet50"))
    for stage, n_blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(n_blocks):
            for layer in ("conv1", "conv2"):
                assert found[f"layer{stage}.{block}.{layer}"] == (stage - 1, block, n_blocks)


def test_streams_have_no_place():
    network = torchvision_network("resnet18")
    streams = residual_streams(channel_groups(network))
    assert streams
    assert not streams & set(places(network))


def test_blocks_that_nothing_is_added_to_stand_first_in_the_stage_they_begin():
    """In MobileNetV2 the first block of a stage widens, without a sum."""
    found = places(torchvision_network("mobilenet_v2"))
    assert [found[f"features.{n}.conv.0.0"].block for n in (7, 8, 9, 10)] == [0, 0, 1, 2]


def test_a_stage_may_have_one_block():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.up, self.down = (
                nn.Conv2d(3, 8, 1),
                nn.Conv2d(8, 16, 1),
                nn.Conv2d(16, 8, 1),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.stem(x)
            return y + self.down(self.up(y).relu())

    assert places(trace_network(Net(), torch.zeros(2, 3, 8, 8))) == {"up": (0, 0, 1)}


@pytest.mark.parametrize("name", ["vgg11", "densenet121"])
def test_without_sums_there_are_no_places(name: str):
    assert not places(torchvision_network(name))
