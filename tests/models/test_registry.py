from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from nnslim.errors import ConfigError
from nnslim.models.registry import (
    architecture,
    architecture_names,
    nearest_names,
    parse_arch_args,
    timm_installed,
)


@pytest.mark.parametrize("name", architecture_names("built-in"))
def test_built_in_names_build_networks_of_ten_classes(name):
    entry = architecture(name)
    net = entry.make({}).eval()
    assert entry.n_classes == 10
    assert net(torch.zeros(1, 3, *entry.size)).shape == (1, 10)


def test_the_same_name_gives_the_same_random_weights_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (architecture("cifar_resnet20").make({}).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_torchvision_takes_classes_and_image_channels():
    net = architecture("torchvision:resnet18").make({"num_classes": 5, "in_channels": 1}).eval()
    assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
    assert net.conv1.stride == (2, 2)
    assert net.conv1.bias is None


def test_values_of_arguments_are_read_by_their_form():
    given = ("n=3", "width=0.5", "tiny=1e-3", "flag=True", "other=false", "kind=B", "text=a=b")
    assert parse_arch_args(given) == {
        "n": 3,
        "width": 0.5,
        "tiny": 0.001,
        "flag": True,
        "other": False,
        "kind": "B",
        "text": "a=b",
    }


@pytest.mark.parametrize("pair", ["n", "=3", "1n=3", "a b=3"])
def test_malformed_argument_is_refused(pair):
    with pytest.raises(ConfigError, match="expected key=value"):
        parse_arch_args((pair,))


def test_argument_given_twice_is_refused():
    with pytest.raises(ConfigError, match="n is given twice"):
        parse_arch_args(("n=3", "n=4"))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet18", "torchvision:resnet18"),
        ("torchvision:resnt50", "torchvision:resnet50"),
        ("cifar_resnet21", "cifar_resnet20"),
        ("resnet20", "cifar_resnet20"),
        ("vgg19bn", "cifar_vgg19_bn"),
    ],
)
def test_unknown_name_lists_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=f"{name}: no such architecture.*did you mean") as caught:
        architecture(name)
    assert nearest in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_name_like_nothing_has_no_suggestion():
    assert nearest_names("zzzzzz") == ()


@pytest.mark.parametrize("name", ["cifar_resnet20", "torchvision:resnet18"])
def test_unknown_argument_is_named(name):
    with pytest.raises(ConfigError, match=f"{name} cannot be built with foo=1.*'foo'"):
        architecture(name).make({"foo": 1})


@pytest.mark.skipif(timm_installed(), reason="timm is installed")
def test_timm_without_timm_says_how_to_get_it():
    with pytest.raises(ConfigError, match="timm is not installed; run: pip install timm"):
        architecture("timm:resnet18")


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A user's package in the working directory."""
    (tmp_path / "zoo_for_tests.py").write_text(
        "import torch\n"
        "class Nets:\n"
        "    @staticmethod\n"
        "    def small(width=4):\n"
        "        return torch.nn.Conv2d(3, width, 1)\n"
        "def broken():\n"
        "    raise KeyError('no weights')\n"
        "def text():\n"
        "    return 'net'\n"
        "number = 3\n"
    )
    (tmp_path / "bad_for_tests.py").write_text("import not_a_module_of_anyone\n")
    (tmp_path / "worse_for_tests.py").write_text("x = 1\nx / 0\n")
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("zoo_for_tests", "bad_for_tests", "worse_for_tests"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("zoo")
def test_factory_in_the_working_directory_is_called_with_its_arguments():
    before = list(sys.path)
    net = architecture("zoo_for_tests:Nets.small").make({"width": 6})
    assert isinstance(net, nn.Conv2d)
    assert net.out_channels == 6
    assert sys.path == before


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere_for_tests:net", "no module 'nowhere_for_tests'"),
        ("bad_for_tests:net", r"importing bad_for_tests failed.*not_a_module_of_anyone"),
        ("worse_for_tests:net", r"ZeroDivisionError: division by zero \(worse_for_tests.py:2\)"),
        ("zoo_for_tests:txt", "has no 'txt'; did you mean text"),
        ("zoo_for_tests:number", "is a int, not a function"),
        ("zoo_for_tests:text", "returned a str, not a torch nn.Module"),
        ("zoo_for_tests:broken", r"KeyError: 'no weights' \(zoo_for_tests.py:7\)"),
        ("zoo_for_tests:Nets.small", "unexpected keyword argument 'height'"),
        (".:net", "'.' is not a module name"),
        ("models/net.py:make", "'models/net.py' is not a module name; write package.module"),
    ],
)
def test_what_goes_wrong_in_a_factory_is_one_sentence(spec, message):
    with pytest.raises(ConfigError, match=message) as caught:
        architecture(spec).make({"height": 3} if spec.endswith("small") else {})
    assert "\n" not in str(caught.value)
