"""The laws over one small member of every convolutional family of torchvision, and our own nets.

Random weights and moved statistics, small images, float64. ``pytest -s`` prints one line per
family: what share of the parameters can be cut, and what share two random halvings left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from nnslim.artifact import load_network, save_network
from nnslim.channels import ChannelMap, channel_groups
from nnslim.models.cifar import CifarResNet, CifarVGG
from nnslim.network import Network, trace_network
from nnslim.onnx import export_onnx
from nnslim.surgery import apply_edit, verify_cut
from tests.laws.made import half_edit, move_statistics
from tests.laws.reference import Law1, check_law_1, random_inputs


@dataclass(frozen=True)
class Family:
    """A model of torchvision or our own, and what is expected of it.

    Attributes:
        make: Builds it; None stands for torchvision's model of the same name.
        options: Arguments of torchvision's builder.
        size: Height and width of the images.
        approximate: Whether some groups are normalised over.
        fast: Whether it runs with the quick tests.
    """

    make: Callable[[], nn.Module] | None = None
    options: dict[str, object] = field(default_factory=dict)
    size: int = 64
    approximate: bool = False
    fast: bool = False


def _small_head(name: str) -> nn.Module:
    """VGG or AlexNet with a narrow classifier; the real one has 60 to 120 million weights."""
    model = getattr(torchvision.models, name)(init_weights=False) if name != "alexnet" else None
    model = model or torchvision.models.alexnet()
    width = model.classifier[-1].in_features // 8
    n_in = 256 if name == "alexnet" else 512
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    linear = [i for i, layer in enumerate(model.classifier) if isinstance(layer, nn.Linear)]
    for i, sizes in zip(linear, ((n_in * 4, width), (width, width), (width, 10)), strict=True):
        model.classifier[i] = nn.Linear(*sizes)
    return model


UNINITIALISED = {"init_weights": False}
FAMILIES = {
    "alexnet": Family(lambda: _small_head("alexnet")),
    "vgg11": Family(lambda: _small_head("vgg11")),
    "vgg11_bn": Family(lambda: _small_head("vgg11_bn")),
    "resnet18": Family(fast=True),
    "resnext50_32x4d": Family(),
    "wide_resnet50_2": Family(),
    "densenet121": Family(),
    "googlenet": Family(options=UNINITIALISED),
    "inception_v3": Family(options=UNINITIALISED, size=96),
    "squeezenet1_0": Family(),
    "squeezenet1_1": Family(fast=True),
    "mobilenet_v2": Family(),
    "mobilenet_v3_small": Family(),
    "mnasnet0_5": Family(),
    "efficientnet_b0": Family(),
    "efficientnet_v2_s": Family(),
    "regnet_x_400mf": Family(),
    "regnet_y_400mf": Family(),
    "shufflenet_v2_x0_5": Family(fast=True),
    "convnext_tiny": Family(approximate=True),
    "cifar_resnet20_A": Family(lambda: CifarResNet(20), size=32, fast=True),
    "cifar_resnet20_B": Family(lambda: CifarResNet(20, shortcut="B"), size=32),
    "cifar_vgg16_bn": Family(lambda: CifarVGG(16), size=32),
}
EXPORTED = ("resnet18", "shufflenet_v2_x0_5", "densenet121", "googlenet", "convnext_tiny")
SWEEP = [
    pytest.param(name, marks=() if family.fast else pytest.mark.slow)
    for name, family in FAMILIES.items()
]


def network_of(name: str) -> Network:
    family = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make = family.make or (
            lambda: getattr(torchvision.models, name)(num_classes=10, **family.options)
        )
        return trace_network(move_statistics(make()), torch.zeros(2, 3, family.size, family.size))


def prunable_share(network: Network, channels: ChannelMap) -> float:
    """Share of the parameters' entries that some prunable channel contains."""
    fixed = {name: list(p.shape) for name, p in network.named_parameters()}
    for group in channels.prunable:
        for member in group.members:
            if member.tensor in fixed:
                fixed[member.tensor][member.dim] -= member.positions.size
    return 1 - sum(int(np.prod(sizes)) for sizes in fixed.values()) / network.n_parameters


def cut_and_check(network: Network, statuses: tuple[str, ...]) -> tuple[Network, Law1]:
    channels = channel_groups(network)
    edit = half_edit(channels, 1, statuses)
    cut = apply_edit(network, edit, channels)
    law = check_law_1(network, cut, channels, edit.keep)
    assert law.says_something, law
    verify_cut(network, cut, channels, edit)
    return cut, law


@pytest.mark.parametrize("name", SWEEP)
def test_two_cuts_of_every_family(name, tmp_path):
    network = network_of(name)
    channels = channel_groups(network)
    approximate = [g.name for g in channels.groups if g.status == "approximate"]
    assert bool(approximate) == FAMILIES[name].approximate, approximate
    share = prunable_share(network, channels)
    once, first = cut_and_check(network, ("free",))
    twice, second = cut_and_check(once, ("free", "approximate"))
    kept = [cut.n_parameters / network.n_parameters for cut in (once, twice)]
    print(
        f"\n{name:20} prunable {share:.3f}  kept {kept[0]:.3f} {kept[1]:.3f}"
        f"  groups {len(channels.prunable):3} ({len(approximate)} approximate)"
        f"  error {max(first.error, second.error):.0e}"
        f"  moved {first.moved:.1e} {second.moved:.1e}  skipped {first.n_skipped}"
    )
    assert share > 0.9
    assert kept[1] < kept[0] < 0.6
    save_network(twice, tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    images = random_inputs(twice)[0].float()
    with torch.no_grad():
        assert torch.equal(again(images), twice(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_file_of_a_cut_family_computes_the_same(name, tmp_path):
    network = network_of(name)
    for _ in range(2):
        channels = channel_groups(network)
        network = apply_edit(network, half_edit(channels, 2, ("free", "approximate")), channels)
    parity = export_onnx(network, tmp_path / "net.onnx").parity
    assert [entry.batch for entry in parity.per_batch] == [1, 2, 5]
    assert parity.max_rel < 1e-4
