"""torchvision's sets, from tiny files in their own layouts; nothing is downloaded."""

from __future__ import annotations

import inspect
import json
import pickle
import struct

import numpy as np
import pytest
import torchvision.datasets
from scipy.io import savemat

from nnslim.data import load_data
from nnslim.data.folder import IMAGENET
from nnslim.data.vision import VISION_SETS
from nnslim.errors import InputError
from tests.data.made import random_images, write_png


@pytest.mark.parametrize("name", VISION_SETS)
def test_every_set_is_torchvisions_and_takes_these_arguments(name):
    known = VISION_SETS[name]
    signature = inspect.signature(getattr(torchvision.datasets, known.cls))
    assert "train" in known.splits
    for options in known.splits.values():
        signature.bind("root", download=False, **options)
    lists_its_files = name in {"gtsrb", "oxfordiiitpet"}
    assert known.in_memory or lists_its_files or "loader" in signature.parameters


@pytest.mark.parametrize("name", VISION_SETS)
def test_missing_set_says_where_it_looked_and_how_to_get_it(name, tmp_path):
    with pytest.raises(InputError) as caught:
        load_data(f"{name}:{tmp_path}")
    assert str(tmp_path) in caught.value.message
    assert "run again with download" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_default_place_is_the_folder_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path}/data"):
        load_data("cifar10")


def test_failed_download_says_so(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", refuse)
    with pytest.raises(InputError, match=r"cifar10 could not be downloaded .*no network"):
        load_data(f"cifar10:{tmp_path}", download=True)


def write_idx(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def test_mnist(tmp_path):
    images = random_images(30, side=28, channels=1)[..., 0]
    for key, count in (("train", 30), ("t10k", 10)):
        raw = tmp_path / "MNIST" / "raw"
        write_idx(raw / f"{key}-images-idx3-ubyte", images[:count])
        write_idx(raw / f"{key}-labels-idx1-ubyte", np.arange(count) % 10)
    data = load_data(f"MNIST:{tmp_path}")
    np.testing.assert_array_equal(data.test.images[..., 0], images[:10])
    assert data.test.labels.tolist() == list(range(10))
    assert len(data.train) + len(data.val) == 30
    assert data.preprocess.mean == (0.1307,)
    assert data.classes[0] == "0 - zero"
    assert not data.augment.flip


def test_cifar10(tmp_path, monkeypatch):
    images = random_images(20, side=32)
    planes = images.transpose(0, 3, 1, 2).reshape(20, -1)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rows = {"data": planes, "labels": [i % 10 for i in range(20)]}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(rows))
    names = {"label_names": list("abcdefghij")}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
    with pytest.raises(InputError, match="missing or damaged"):
        load_data(f"cifar10:{tmp_path}")  # torchvision only unpickles files with the known MD5
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    data = load_data(f"cifar-10:{tmp_path}")
    np.testing.assert_array_equal(data.test.images, images)
    assert len(data.train) + len(data.val) == 100
    assert data.classes == tuple("abcdefghij")
    assert data.augment.flip
    assert data.augment.pad == 4


def test_svhn_is_turned_to_channels_last(tmp_path, monkeypatch):
    images = random_images(20, side=32)
    for key in ("train", "test"):
        labels = (np.arange(20) % 10 + 1)[:, None]
        savemat(tmp_path / f"{key}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels})
    monkeypatch.setattr(torchvision.datasets.svhn, "check_integrity", lambda *_: True)
    data = load_data(f"svhn:{tmp_path}")
    np.testing.assert_array_equal(data.test.images, images)
    assert data.test.labels.tolist() == [*range(1, 10), 0] * 2
    assert data.classes == tuple("0123456789")


def test_gtsrb_and_pets_give_their_own_lists(tmp_path):
    base = tmp_path / "gtsrb"
    for label in range(2):
        folder = base / "GTSRB" / "Training" / f"{label:05d}"
        for index in range(5):
            write_png(folder / f"{index}.ppm", random_images(1)[0])
    write_png(base / "GTSRB" / "Final_Test" / "Images" / "00000.ppm", random_images(1)[0])
    (base / "GT-final_test.csv").write_text("Filename;ClassId\n00000.ppm;1\n")
    data = load_data(f"gtsrb:{tmp_path}")
    assert (data.classes, data.test.labels.tolist()) == (("0", "1"), [1])
    assert data.preprocess.size == (32, 32)
    assert not data.augment.flip
    pets = tmp_path / "oxford-iiit-pet"
    (pets / "annotations").mkdir(parents=True)
    for index in range(4):
        write_png(pets / "images" / f"cat_{index}.jpg", random_images(1, side=70)[0])
        write_png(pets / "images" / f"small_dog_{index}.jpg", random_images(1, side=80)[0])
    lines = "".join(f"cat_{i} 1 1 1\nsmall_dog_{i} 2 2 1\n" for i in range(4))
    for key in ("trainval", "test"):
        (pets / "annotations" / f"{key}.txt").write_text(lines)
    data = load_data(f"oxford-iiit-pet:{tmp_path}")
    assert data.classes == ("Cat", "Small Dog")
    assert data.test.files[1].endswith("small_dog_0.jpg")
    assert data.test.labels.tolist() == [0, 1] * 4
    assert data.preprocess == IMAGENET


def test_files_with_a_loader_are_listed_without_decoding(tmp_path):
    base = tmp_path / "food-101"
    (base / "meta").mkdir(parents=True)
    (base / "images").mkdir()
    for key in ("train", "test"):
        listing = {name: [f"{name}/{i}" for i in range(3)] for name in ("cake", "soup")}
        (base / "meta" / f"{key}.json").write_text(json.dumps(listing))
    for name in ("cake", "soup"):
        for index in range(3):
            write_png(base / "images" / name / f"{index}.jpg", random_images(1, side=70)[0])
    data = load_data(f"food101:{tmp_path}")
    assert data.classes == ("cake", "soup")
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.files[3].endswith("images/soup/0.jpg")


def test_set_without_official_split_gets_a_fixed_test_part(tmp_path):
    for name in ("Forest", "River"):
        for index in range(20):
            path = tmp_path / "eurosat" / "2750" / name / f"{name}_{index}.jpg"
            write_png(path, random_images(1, side=64)[0])
    one, other = (load_data(f"eurosat:{tmp_path}", seed=seed) for seed in (0, 1))
    assert [len(s) for s in (one.train, one.val, one.test)] == [29, 3, 8]
    assert list(one.test.files) == list(other.test.files)
    assert any("no official split" in note for note in one.notes)
    assert not set(one.test.files) & {*one.train.files, *one.val.files}
    assert one.preprocess.size == (64, 64)
