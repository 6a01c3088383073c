from __future__ import annotations

import pytest
import torch

from nnslim.errors import ConfigError
from nnslim.models.cifar import CIFAR_DEPTHS, VGG_PLANS, CifarResNet, CifarVGG

# He et al., table 6, in millions.
PUBLISHED = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def resnet_parameters(n, classes=10, channels=3):
    """Closed form: n blocks of two 3 x 3 convolutions with batch norm in each of three stages."""
    total = 9 * channels * 16 + 2 * 16
    for before, width in ((16, 16), (16, 32), (32, 64)):
        first = 9 * before * width
        others = (2 * n - 1) * 9 * width * width
        total += first + others + 2 * n * 2 * width
    return total + 64 * classes + classes


@pytest.mark.parametrize("depth", CIFAR_DEPTHS)
def test_parameter_count_is_the_closed_form(depth):
    assert parameters(CifarResNet(depth)) == resnet_parameters((depth - 2) // 6)


@pytest.mark.parametrize("depth", PUBLISHED)
def test_parameter_count_is_the_published_one(depth):
    assert parameters(CifarResNet(depth)) / 1e6 == pytest.approx(PUBLISHED[depth], rel=0.02)


@pytest.mark.parametrize("depth", CIFAR_DEPTHS)
def test_option_b_adds_two_projections(depth):
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert (
        parameters(CifarResNet(depth, shortcut="B")) == parameters(CifarResNet(depth)) + projections
    )


def test_classes_and_channels_change_only_their_own_layers():
    count = parameters(CifarResNet(20, num_classes=100, in_channels=1))
    assert count == resnet_parameters(3, classes=100, channels=1)


@pytest.mark.parametrize("depth", VGG_PLANS)
def test_vgg_has_depth_weighted_layers_of_the_paper(depth):
    net = CifarVGG(depth, num_classes=7)
    widths = {
        16: "64 64 128 128 256 256 256 512 512 512 512 512 512",
        19: "64 64 128 128 256 256 256 256 512 512 512 512 512 512 512 512",
    }
    convs = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    # VGG's depth counts three linear layers, of which one is left.
    assert len(convs) == depth - 3
    assert [c.out_channels for c in convs] == [int(w) for w in widths[depth].split()]
    assert net.classifier.out_features == 7


def test_option_a_is_the_identity_on_every_second_pixel_between_zero_channels():
    shortcut = CifarResNet(20).layer2[0].shortcut
    x = torch.randn(2, 16, 8, 8)
    y = shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


@pytest.mark.parametrize("net", [CifarResNet(20, shortcut="B"), CifarVGG(16)])
def test_other_image_sizes_work_too(net):
    assert net.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize("depth", [18, 21, 2])
def test_impossible_depth_is_refused(depth):
    with pytest.raises(ConfigError, match=r"6 n \+ 2"):
        CifarResNet(depth)


def test_unknown_shortcut_is_refused():
    with pytest.raises(ConfigError, match="shortcut is A or B, got 'C'"):
        CifarResNet(20, shortcut="C")


def test_unknown_vgg_is_refused():
    with pytest.raises(ConfigError, match="16 or 19"):
        CifarVGG(11)
