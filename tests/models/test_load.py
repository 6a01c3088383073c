from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nnslim.artifact import save_network
from nnslim.data.preprocess import Preprocess
from nnslim.errors import ConfigError, InputError
from nnslim.models import ModelOptions, load_model
from nnslim.models.registry import architecture
from tests.models.files import exported, small

CHECKPOINTS = Path(__file__).parents[2] / ".." / "shared" / "checkpoints"
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CIFAR = Preprocess((32, 32), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same network in every form, and the network."""
    net, folder = small(), tmp_path_factory.mktemp("models")
    torch.save(net.state_dict(), folder / "bare.pt")
    old = {f"module.{n}": t for n, t in net.state_dict().items() if "num_batches" not in n}
    torch.save({"state_dict": old, "best_prec1": 91.7}, folder / "old.th")
    save_file(net.state_dict(), folder / "plain.safetensors")
    program = torch.export.export(
        net, (IMAGES,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
    )
    torch.export.save(program, folder / "program.pt2")
    save_network(load_model(folder / "bare.pt").network, folder / "ours.safetensors")
    return folder, net


@pytest.mark.parametrize(
    "name", ["bare.pt", "old.th", "plain.safetensors", "program.pt2", "ours.safetensors"]
)
def test_every_form_of_a_model_computes_the_same(files, name):
    folder, net = files
    loaded = load_model(folder / name)
    with torch.no_grad():
        assert torch.equal(loaded.network(IMAGES), net(IMAGES))
    assert not loaded.network.training
    assert loaded.source == str(folder / name)
    assert loaded.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_what_was_recognised_is_said(files):
    loaded = load_model(files[0] / "old.th")
    assert loaded.arch == "cifar_resnet20"
    assert loaded.notes == ("old.th: recognised as cifar_resnet20",)


def test_a_named_architecture_needs_no_note(files):
    loaded = load_model(files[0] / "bare.pt", ModelOptions(arch="cifar_resnet20"))
    assert loaded.arch == "cifar_resnet20"
    assert loaded.notes == ()


def test_arguments_of_a_named_architecture_are_read_off_the_weights(tmp_path):
    net = small(num_classes=7, shortcut="B")
    torch.save(net.state_dict(), tmp_path / "w.pt")
    loaded = load_model(tmp_path / "w.pt", ModelOptions(arch="cifar_resnet20"))
    assert loaded.network.n_classes == 7
    assert loaded.notes == ("w.pt: read as cifar_resnet20 (num_classes=7, shortcut=B)",)


def test_one_channel_images(tmp_path):
    net = architecture("cifar_resnet20").make({"in_channels": 1})
    torch.save(net.state_dict(), tmp_path / "w.pt")
    assert load_model(tmp_path / "w.pt").network.input_shape == (1, 32, 32)


def test_half_precision_weights_become_float32_and_say_so(tmp_path):
    torch.save(small().half().state_dict(), tmp_path / "w.pt")
    loaded = load_model(tmp_path / "w.pt")
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
    assert "weights of float16 were converted to float32" in loaded.notes


def test_an_architecture_without_a_file_has_random_weights_and_says_so():
    options = ModelOptions(arch="cifar_resnet20", num_classes=6, preprocess=CIFAR)
    first, second = load_model(None, options), load_model(None, options)
    assert first.notes == ("no file was given: the weights are random",)
    assert (first.source, first.sha256) == ("cifar_resnet20", None)
    assert first.network.n_classes == 6
    assert torch.equal(first.network(IMAGES), second.network(IMAGES))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (ModelOptions(), (32, 32)),
        (ModelOptions(preprocess=Preprocess((40, 48), (0.5,) * 3, (1.0,) * 3)), (40, 48)),
        (ModelOptions(input_size=(64, 32)), (64, 32)),
        (ModelOptions(input_size=(64, 32), preprocess=CIFAR), (64, 32)),
    ],
)
def test_the_size_comes_from_the_flag_then_the_preprocessing_then_the_architecture(
    files, options, size
):
    network = load_model(files[0] / "bare.pt", options).network
    assert network.input_shape == (3, *size)
    assert network.preprocess is None or network.preprocess.size == size
    assert (network.preprocess is None) == (options.preprocess is None)


@pytest.mark.parametrize("name", ["program.pt2", "ours.safetensors"])
def test_a_graph_of_one_size_takes_no_other(files, name):
    with pytest.raises(InputError, match="takes images of 32 x 32 pixels, not 64 x 64 pixels"):
        load_model(files[0] / name, ModelOptions(input_size=(64, 64)))


@pytest.mark.parametrize("name", ["bare.pt", "program.pt2", "ours.safetensors"])
def test_the_wrong_number_of_classes_is_said_with_both_numbers(files, name):
    with pytest.raises(InputError, match="has 10 outputs, but the data has 100 classes") as caught:
        load_model(files[0] / name, ModelOptions(num_classes=100))
    assert str(files[0] / name) in str(caught.value)


def test_the_wrong_number_of_channels_is_said_with_both_numbers(files):
    gray = Preprocess((32, 32), (0.5,), (0.2,))
    with pytest.raises(InputError, match="images of 3 channels, but the preprocessing has 1"):
        load_model(files[0] / "bare.pt", ModelOptions(preprocess=gray))


def test_weights_that_do_not_fit_say_what_differs(files):
    with pytest.raises(InputError) as caught:
        load_model(files[0] / "bare.pt", ModelOptions(arch="torchvision:resnet18"))
    message = str(caught.value)
    for part in ("does not fit arch=torchvision:resnet18", "missing (", "unexpected ("):
        assert part in message
    assert "conv1.weight: (16, 3, 3, 3) in the file, (64, 3, 7, 7) needed, " in message
    assert message.count("in the file") == 3
    assert "\n" not in message


def test_a_given_argument_is_not_overruled_by_the_weights(files):
    options = ModelOptions(arch="cifar_resnet20", arch_args=("num_classes=100",))
    with pytest.raises(InputError, match=r"2 of another shape \(linear.weight"):
        load_model(files[0] / "bare.pt", options)


def test_an_unknown_state_dict_names_the_file(tmp_path):
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt: no known architecture has these 1 tensors"):
        load_model(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["program.pt2", "ours.safetensors"])
def test_a_file_with_its_own_graph_takes_no_architecture(files, name):
    with pytest.raises(ConfigError, match="holds a graph"):
        load_model(files[0] / name, ModelOptions(arch="cifar_resnet20"))


def test_an_onnx_file_has_nothing_to_train(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08anything")
    with pytest.raises(InputError, match=r"no weights that could be trained.*\.safetensors"):
        load_model(tmp_path / "net.onnx")


def test_arguments_need_an_architecture(files):
    with pytest.raises(ConfigError, match="arch_arg is of no use without arch"):
        load_model(files[0] / "bare.pt", ModelOptions(arch_args=("num_classes=10",)))


def test_nothing_to_load():
    with pytest.raises(ConfigError, match="there is no model; give a file"):
        load_model(None)


def test_a_name_in_place_of_a_file_says_what_to_write():
    with pytest.raises(InputError, match="use arch=torchvision:resnet18"):
        load_model("torchvision:resnet18")


def test_a_damaged_network_file_is_one_sentence(files, tmp_path):
    data = (files[0] / "ours.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-100])
    with pytest.raises(InputError, match=r"cut\.safetensors") as caught:
        load_model(tmp_path / "cut.safetensors")
    assert "\n" not in str(caught.value)


class TestTrustedModule:
    @pytest.fixture
    def path(self, tmp_path):
        torch.save({"model": small()}, tmp_path / "net.pt")
        return tmp_path / "net.pt"

    def test_is_refused_without_the_flag(self, path):
        with pytest.raises(InputError, match="give trust_pickle"):
            load_model(path)

    def test_is_traced_as_it_is(self, path):
        loaded = load_model(path, ModelOptions(trust_pickle=True, input_size=(32, 32)))
        assert torch.equal(loaded.network(IMAGES), small()(IMAGES))
        assert loaded.arch is None
        assert "its code ran" in loaded.notes[0]

    def test_does_not_say_its_image_size(self, path):
        with pytest.raises(ConfigError, match="give input_size"):
            load_model(path, ModelOptions(trust_pickle=True))

    def test_gives_its_weights_to_a_named_architecture(self, path):
        loaded = load_model(path, ModelOptions(trust_pickle=True, arch="cifar_resnet20"))
        assert torch.equal(loaded.network(IMAGES), small()(IMAGES))


def test_a_factory_is_filled_with_the_weights_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "mine_for_tests.py").write_text(
        "from torch import nn\n"
        "def make(width):\n"
        "    conv, pool = nn.Conv2d(1, width, 3), nn.AdaptiveAvgPool2d(1)\n"
        "    return nn.Sequential(conv, pool, nn.Flatten(), nn.Linear(width, 2))\n"
        "def segment():\n"
        "    return nn.Conv2d(3, 4, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    torch.save(net.state_dict(), "w.pt")
    options = ModelOptions("mine_for_tests:make", ("width=5",), input_size=(9, 7))
    loaded = load_model("w.pt", options)
    x = torch.randn(4, 1, 9, 7)
    assert torch.equal(loaded.network(x), net(x))
    assert loaded.arch == "mine_for_tests:make (width=5)"
    options = ModelOptions("mine_for_tests:make", ("width=6",), input_size=(9, 7))
    with pytest.raises(InputError, match="does not fit arch=mine_for_tests:make"):
        load_model("w.pt", options)
    with pytest.raises(InputError, match=r"does not return one tensor of logits"):
        load_model(None, ModelOptions("mine_for_tests:segment", input_size=(9, 7)))


def test_a_program_without_convolutions_keeps_its_own_shape(tmp_path):
    net = exported(tmp_path / "net.pt2")
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(load_model(tmp_path / "net.pt2").network(x), net(x))


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="../shared/checkpoints is not there")
@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_published_checkpoints_load_without_a_name(depth):
    (path,) = CHECKPOINTS.glob(f"resnet{depth}-*.th")
    loaded = load_model(path, ModelOptions(num_classes=10))
    assert loaded.arch == f"cifar_resnet{depth}"
    stored = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = loaded.network.state_dict()
    assert all(torch.equal(state[name[7:]], tensor) for name, tensor in stored.items())
