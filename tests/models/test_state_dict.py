from __future__ import annotations

import argparse
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nnslim.errors import InputError
from nnslim.models.formats import file_kind
from nnslim.models.state_dict import read_checkpoint
from tests.models.files import Evil, exported, weights


def wrapped(prefix):
    return {prefix + name: tensor for name, tensor in weights().items()}


VARIANTS = {
    "bare": weights,
    "state_dict": lambda: {"state_dict": weights(), "epoch": 3},
    "model": lambda: {"model": weights(), "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda: {"model_state_dict": weights()},
    "ema": lambda: {"ema": weights()},
    "ema and net": lambda: {"ema": {"net": weights(), "decay": 0.9}},
    "net": lambda: {"net": weights(), "acc": 91.3},
    "module.": lambda: wrapped("module."),
    "_orig_mod.": lambda: wrapped("_orig_mod."),
    "both": lambda: {"state_dict": wrapped("module._orig_mod.")},
    "both, other order": lambda: wrapped("_orig_mod.module."),
    "compiled child": lambda: {
        name.replace("layer1.", "layer1._orig_mod."): t for name, t in weights().items()
    },
    "averaged": lambda: {"n_averaged": torch.tensor(3), **wrapped("module.")},
    "namespace": lambda: {"model": weights(), "args": argparse.Namespace(lr=0.1)},
}


def same(found, expected):
    return list(found) == list(expected) and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_nesting_and_prefix_gives_the_same_tensors(tmp_path, variant, legacy):
    path = tmp_path / "weights.pth"
    torch.save(VARIANTS[variant](), path, _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(path)
    assert same(read.tensors, weights())
    assert read.module is None
    assert read.notes == ()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_safetensors_gives_the_same_tensors_under_any_name(tmp_path, name):
    save_file(wrapped("module."), tmp_path / name)
    read = read_checkpoint(tmp_path / name)
    assert {k: v.tolist() for k, v in read.tensors.items()} == {
        k: v.tolist() for k, v in weights().items()
    }


def test_the_other_weights_of_a_file_are_mentioned(tmp_path):
    torch.save({"state_dict": weights(), "ema": wrapped("module.")}, tmp_path / "w.pt")
    (note,) = read_checkpoint(tmp_path / "w.pt").notes
    assert note == "the weights are those under 'state_dict'; the file also has 'ema'"


def test_a_model_whose_own_names_begin_like_a_prefix_keeps_them(tmp_path):
    tensors = {"module.weight": torch.ones(1), "other.weight": torch.ones(2)}
    torch.save(tensors, tmp_path / "w.pt")
    assert list(read_checkpoint(tmp_path / "w.pt").tensors) == list(tensors)


@pytest.mark.parametrize("nest", [lambda e: e, lambda e: {"state_dict": e}, lambda e: [1, e]])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, nest, legacy):
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    torch.save(nest(Evil(marker)), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"posix.system.*code.*with arch, or give trust_pickle"):
        read_checkpoint(path)
    assert not marker.exists()
    # The same file does run when it is trusted, so the test above says something.
    with pytest.raises(InputError, match=r"not a state dict|cannot be unpickled"):
        read_checkpoint(path, trust_pickle=True)
    assert marker.exists()


def test_a_plain_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(InputError):
        read_checkpoint(path)
    assert not marker.exists()


def test_a_pickled_module_is_refused_with_the_ways_out(tmp_path):
    torch.save(nn.Linear(2, 3), tmp_path / "net.pt")
    with pytest.raises(InputError) as caught:
        read_checkpoint(tmp_path / "net.pt")
    message = str(caught.value)
    assert "torch.nn.modules.linear.Linear" in message
    assert "with arch" in message
    assert "give trust_pickle" in message
    assert "\n" not in message


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m}, nn.DataParallel])
def test_a_trusted_module_is_returned_with_a_warning(tmp_path, wrap):
    net = nn.Linear(2, 3)
    torch.save(wrap(net), tmp_path / "net.pt")
    read = read_checkpoint(tmp_path / "net.pt", trust_pickle=True)
    assert isinstance(read.module, nn.Linear)
    assert same(read.tensors, net.state_dict())
    assert "without restriction" in read.notes[0]


def test_trusting_changes_nothing_for_tensors_but_the_note(tmp_path):
    torch.save(weights(), tmp_path / "w.pt")
    assert same(read_checkpoint(tmp_path / "w.pt", trust_pickle=True).tensors, weights())


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [1, 5, 100, 5_000, -1_000])
def test_a_truncated_file_is_one_sentence(tmp_path, legacy, keep):
    path = tmp_path / "w.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=not legacy)
    cut(path, keep)
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [4, 50, 5_000, -1_000])
def test_a_truncated_safetensors_is_one_sentence(tmp_path, keep):
    path = tmp_path / "w.safetensors"
    save_file(weights(), path)
    cut(path, keep)
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not a model at all", "is not a model file"),
        (b"\x80\x02garbage that is not a pickle", "is damaged or truncated"),
        (b"PK\x03\x04 but no archive", "is damaged or truncated"),
        (bytes(8) + b"{}", "safetensors"),
        ((99).to_bytes(8, "little") + b"{", "truncated"),
        ((5).to_bytes(8, "little") + b"{,,,}", "not JSON"),
    ],
)
def test_garbage_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_checkpoint(path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "empty state dict"),
        ({"state_dict": {}}, "empty state dict"),
        ([1, 2], "holds a list, not a state dict"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ({"epoch": 3, "lr": 0.1}, "'epoch' is a int"),
        ({"a.weight": torch.zeros(3), "epoch": 3}, "'epoch' is a int"),
        ({1: torch.zeros(3)}, "not a state dict: 1 is a Tensor"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path, value, message):
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "w.pt")


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.pt: no such file; check the path"):
        read_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match=r"is a directory without model\.safetensors; give the"):
        read_checkpoint(tmp_path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(nn.ReLU(), torch.zeros(1)), tmp_path / "net.pt")
    with pytest.raises(InputError, match="TorchScript archive, which carries code"):
        read_checkpoint(tmp_path / "net.pt")


def test_kinds_are_told_by_content(tmp_path):
    exported(tmp_path / "program.pt2")
    (tmp_path / "program.pt2").rename(tmp_path / "a.pt")
    torch.save(weights(), tmp_path / "b.bin")
    save_file(weights(), tmp_path / "c.bin")
    (tmp_path / "d.onnx").write_bytes(b"\x08\x08")
    kinds = [file_kind(tmp_path / name) for name in ("a.pt", "b.bin", "c.bin", "d.onnx")]
    assert kinds == ["exported", "torch", "safetensors", "onnx"]
