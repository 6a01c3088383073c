"""A pruned network goes back into its user's own module, or is refused with the place."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import nnslim
from nnslim.artifact import save_network
from nnslim.channels import channel_groups
from nnslim.errors import InputError, UnsupportedModelError
from nnslim.models.into import put_into
from nnslim.network import Network, trace_network
from nnslim.surgery import apply_edit
from tests.laws.made import half_edit, move_statistics


class Layers(nn.Module):
    """Every standard layer that has a size of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.prelu, self.instance = nn.PReLU(12), nn.InstanceNorm2d(12, affine=True)
        self.up, self.norm = nn.ConvTranspose2d(12, 16, 2, 2), nn.GroupNorm(8, 16)
        self.plain = nn.GroupNorm(8, 16, affine=False)
        self.linear, self.layer = nn.Linear(16, 10), nn.LayerNorm(10)
        self.bare = nn.LayerNorm(10, elementwise_affine=False)
        self.rms, self.scale = nn.RMSNorm(10), nn.Parameter(torch.ones(10))
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.instance(self.prelu(self.depthwise(F.relu(self.bn(self.conv(x))))))
        y = self.plain(self.norm(self.up(F.avg_pool2d(y, 2))))
        y = self.bare(self.layer(self.linear(y.mean((2, 3)))))
        return self.head(self.scale * self.rms(y))


def pruned(module: nn.Module, size: int = 16) -> Network:
    network = trace_network(move_statistics(module), torch.zeros(2, 3, size, size))
    channels = channel_groups(network)
    return apply_edit(network, half_edit(channels, 3, ("free", "approximate")), channels)


def test_every_standard_layer_is_resized(tmp_path):
    network = pruned(Layers())
    save_network(network, tmp_path / "slim.safetensors")
    module = nnslim.load(tmp_path / "slim.safetensors", into=Layers())
    images = torch.randn(3, 3, 16, 16)
    assert torch.allclose(module.eval()(images), network(images), atol=1e-5)
    assert (module.conv.out_channels, module.bn.num_features) == (6, 6)
    assert (module.depthwise.groups, module.depthwise.in_channels) == (6, 6)
    assert module.prelu.num_parameters == module.instance.num_features == 6
    assert (module.up.in_channels, module.up.out_channels) == (6, module.norm.num_channels)
    assert module.norm.num_groups == module.plain.num_groups == 4
    assert module.linear.out_features == module.head.in_features == 5
    assert module.layer.normalized_shape == module.bare.normalized_shape == (5,)
    assert module.rms.normalized_shape == (5,)
    assert module.scale.shape == (5,)
    # What was resized trains, and its own state dict fits it.
    F.cross_entropy(module.train()(images), torch.tensor([0, 1, 2])).backward()
    assert all(p.grad is not None for p in module.parameters())
    again = nnslim.load(tmp_path / "slim.safetensors", into=Layers())
    again.load_state_dict(module.state_dict())


def test_the_module_keeps_its_mode_precision_and_frozen_parameters():
    network, module = pruned(Layers()), Layers().double().train()
    module.conv.weight.requires_grad_(False)
    put_into(network, module)
    assert module.training
    assert module.conv.weight.dtype == torch.float64
    assert not module.conv.weight.requires_grad
    assert module.head.weight.requires_grad


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x)).view(-1, 288))


def test_a_size_written_into_forward_is_refused_with_its_place():
    network, module = pruned(Fixed(), 8), Fixed()
    before = copy.deepcopy(module.state_dict())
    line = Fixed.forward.__code__.co_firstlineno + 1
    with pytest.raises(UnsupportedModelError, match=rf"test_into\.py:{line}, in forward"):
        put_into(network, module)
    assert module.conv.out_channels == 8
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


class Scaled(nn.Module):
    """Runs at any width, but computes with the old one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y * y.shape[1] ** 0.5).mean((2, 3))


def test_a_module_that_computes_something_else_is_refused():
    with pytest.raises(UnsupportedModelError, match="computes something else"):
        put_into(pruned(Scaled()), Scaled())


def test_another_architecture_is_refused_by_name():
    with pytest.raises(InputError, match=r"'conv\.weight', which Scaled lacks \(nearest: '"):
        put_into(pruned(Layers()), Scaled())


def test_a_parametrized_layer_is_refused():
    module = Scaled()
    nn.utils.parametrizations.weight_norm(module.a)
    with pytest.raises(UnsupportedModelError, match=r"layer 'a' computes its weight"):
        put_into(pruned(Scaled()), module)


def test_parameters_that_evaluation_does_not_use_are_named():
    class Auxiliary(Scaled):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)).mean((2, 3))

    with pytest.warns(UserWarning, match=r"2 parameters are not in the file.*aux\.weight"):
        put_into(pruned(Auxiliary()), Auxiliary())


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.b.weight, self.head = self.a.weight, nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.head((y + self.b(F.relu(self.a(y)))).mean((2, 3)))

    module = put_into(pruned(Tied()), Tied())
    assert module.a.weight is module.b.weight
    assert module.a.weight.shape == (4, 4, 1, 1)


WORKS = {
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "vgg11_bn": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_b0": 64,
    "densenet121": 64,
    "squeezenet1_1": 64,
    "mnasnet0_5": 64,
    "regnet_y_400mf": 64,
    "convnext_tiny": 64,
    "alexnet": 96,
}
REFUSED = {"shufflenet_v2_x0_5": 64, "swin_t": 64, "maxvit_t": 224}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_torchvision_models(name, tmp_path):
    make = getattr(torchvision.models, name)
    network = pruned(make(num_classes=10), WORKS[name])
    save_network(network, tmp_path / "slim.safetensors")
    module = nnslim.load(tmp_path / "slim.safetensors", into=make(num_classes=10))
    assert sum(p.numel() for p in module.parameters()) == network.n_parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_torchvision_models_that_cannot(name):
    make = getattr(torchvision.models, name)
    with pytest.raises(UnsupportedModelError) as caught:
        put_into(pruned(make(num_classes=10), REFUSED[name]), make(num_classes=10))
    assert re.search(r"\.py:\d+|computes something else", caught.value.message)
