from __future__ import annotations

import time

import pytest

from nnslim.errors import InputError
from nnslim.models.families import REPRESENTATIVES, family
from nnslim.models.recognise import best_fit, recognise
from nnslim.models.registry import architecture, architecture_names
from nnslim.models.skeleton import signature, signature_of

SOME = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x1_0",
    "squeezenet1_0",
    "vgg11_bn",
]


def shapes_of(name, **arguments):
    return signature(lambda: architecture(name).build(**arguments))


def old(shapes):
    """As torch wrote it before 0.4.1: without counters."""
    return {name: shape for name, shape in shapes.items() if "num_batches" not in name}


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_vgg16_bn", "torchvision:regnet_x_400mf"])
def test_skeleton_has_the_shapes_of_the_real_network(name):
    real = architecture(name).make({"num_classes": 7})
    assert shapes_of(name, num_classes=7) == signature_of(real.state_dict())


@pytest.mark.parametrize("name", architecture_names("built-in"))
def test_built_in_networks_are_recognised_with_their_arguments(name):
    arguments = {"num_classes": 100, "in_channels": 1}
    found = recognise(old(shapes_of(name, **arguments)))
    assert (found.name, dict(found.arguments)) == (name, arguments)


@pytest.mark.parametrize("depth", [20, 110])
def test_the_kind_of_shortcut_is_recognised(depth):
    arguments = {"shortcut": "B", "num_classes": 3}
    found = recognise(shapes_of(f"cifar_resnet{depth}", **arguments))
    assert (found.name, dict(found.arguments)) == (f"cifar_resnet{depth}", arguments)


@pytest.mark.parametrize("name", SOME)
def test_torchvision_networks_are_recognised_with_their_arguments(name):
    arguments = {"num_classes": 10, "in_channels": 1}
    start = time.process_time()
    found = recognise(shapes_of(f"torchvision:{name}", **arguments))
    seconds = time.process_time() - start
    assert (found.name, dict(found.arguments)) == (f"torchvision:{name}", arguments)
    assert seconds < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", architecture_names("torchvision"))
def test_every_torchvision_network_is_recognised(name):
    for arguments in ({}, {"num_classes": 10}):
        found = recognise(old(shapes_of(name, **arguments)))
        assert (found.name, dict(found.arguments)) == (name, arguments)


def test_auxiliary_heads_may_be_missing():
    found = recognise(shapes_of("torchvision:googlenet", aux_logits=False))
    assert (found.name, dict(found.arguments)) == ("torchvision:googlenet", {"aux_logits": False})


def test_every_torchvision_family_has_a_representative():
    covered = {name for representative in REPRESENTATIVES for name in family(representative)}
    assert covered == set(architecture_names("torchvision"))


def test_tensors_that_fit_several_architectures_are_ambiguous(tmp_path, monkeypatch):
    (tmp_path / "twins_for_tests.py").write_text(
        "from torch import nn\n"
        "def tall(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
        "def flat(): return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2))\n"
        "def wide(): return nn.Sequential(nn.Conv2d(3, 5, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    shapes = {"0.weight": (4, 3, 3, 3), "0.bias": (4,)}
    tall, flat, wide = (f"twins_for_tests:{name}" for name in ("tall", "flat", "wide"))
    assert recognise(shapes, (tall, wide)).name == tall
    with pytest.raises(InputError) as caught:
        recognise(shapes, (tall, wide, flat))
    assert str(caught.value) == (
        f"these tensors fit 2 architectures equally well: {tall}, {flat};"
        " say which one with arch and arch_arg"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("layer2.1.bn1.running_mean"),
        lambda s: s.update({"extra.weight": (3,)}),
        lambda s: s.update({"layer3.1.conv2.weight": (64, 64, 5, 5)}),
        lambda s: s.update({"linear.bias": (9,)}),
        lambda s: s.update({"linear.weight": (10, 65)}),
        lambda s: s.update({"layer1.0.bn1.weight": (16, 1)}),
    ],
)
def test_one_wrong_tensor_is_not_recognised(change):
    shapes = shapes_of("cifar_resnet20")
    change(shapes)
    with pytest.raises(InputError, match=r"no known architecture .* nearest: cifar_resnet20"):
        recognise(shapes, ("cifar_resnet20", "cifar_resnet32"))


def test_unknown_architecture_names_the_nearest_and_what_differs():
    shapes = shapes_of("torchvision:resnet34") | {"conv1.weight": (64, 3, 3, 3)}
    with pytest.raises(InputError) as caught:
        recognise(shapes)
    message = str(caught.value)
    assert "nearest: torchvision:resnet34 (99% alike)" in message
    assert "conv1.weight: (64, 3, 3, 3) in the file, (64, 3, 7, 7) needed" in message
    assert "with arch" in message


def test_tensors_like_nothing_have_no_nearest():
    with pytest.raises(InputError, match="these 1 tensors; name the network"):
        recognise({"something.weight": (3, 3)})


def test_given_arguments_are_kept_and_open_ones_are_read_off_the_shapes():
    entry = architecture("torchvision:resnet18")
    found = shapes_of("torchvision:resnet18", num_classes=10, in_channels=1)
    assert best_fit(entry, {}, found).arguments == {"num_classes": 10, "in_channels": 1}
    kept = best_fit(entry, {"num_classes": 11}, found)
    assert kept.arguments["num_classes"] == 11
    assert not kept.match.exact
