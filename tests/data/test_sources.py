"""What may name a data set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnslim.data import load_data
from nnslim.data.statistics import channel_statistics
from nnslim.errors import InputError
from tests.data.made import random_images


def test_digits_are_the_same_1797_images_every_time():
    data, again = load_data("digits", seed=0), load_data("digits", seed=1)
    assert [len(s) for s in (data.train, data.val, data.test)] == [1257, 180, 360]
    assert data.test.images.tobytes() == again.test.images.tobytes()
    assert data.val.images.tobytes() == again.val.images.tobytes()
    assert data.train.images.shape == (1257, 8, 8, 1)
    assert data.train.images.max() == 255
    assert set(np.bincount(data.test.labels)) <= {35, 36, 37}
    assert not data.augment.flip
    assert (data.preprocess.mean, data.preprocess.std) == channel_statistics(data.train.images)


def test_a_module_is_found_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    Path("my_pictures.py").write_text(
        "import numpy as np\n"
        "from nnslim.data import Augment, Data, Preprocess, Split\n"
        "def as_dict():\n"
        "    images = np.zeros((20, 8, 8, 3), np.uint8)\n"
        "    return {'train_images': images, 'train_labels': np.arange(20) % 2}\n"
        "def as_data():\n"
        "    split = Split(np.arange(20) % 2, np.zeros((20, 8, 8), np.uint8))\n"
        "    gray = Preprocess(size=(8, 8), mean=(0.5,), std=(0.5,))\n"
        "    return Data('mine', ('a', 'b'), gray, {'train': split}, Augment(1, flip=False))\n"
        "def as_number():\n"
        "    return 3\n"
    )
    data = load_data("my_pictures:as_dict")
    assert (len(data.train), len(data.val)) == (18, 2)
    assert load_data("my_pictures:as_data").classes == ("a", "b")
    with pytest.raises(InputError, match="my_pictures:as_number returned a int"):
        load_data("my_pictures:as_number")
    with pytest.raises(InputError, match="my_pictures:nothing: my_pictures has no 'nothing'"):
        load_data("my_pictures:nothing")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("cifr10", r"'cifr10' is no file, folder or known data set \(did you mean cifar10"),
        ("cifar11:somewhere", "there is no module 'cifar11' .*did you mean cifar10"),
        (
            "no_such_module_here:make",
            "there is no module 'no_such_module_here' here or",
        ),
        ("zzzzqqqq", "'zzzzqqqq' is no file, folder or known data set; give a folder"),
        ("missing/set.npz", r"missing/set\.npz: no such file or folder"),
        ("", "no data given; give a folder"),
    ],
)
def test_unknown_data_is_refused_with_the_next_step(spec, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        load_data(spec)


def test_a_path_is_never_taken_for_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="digits: no such file or folder"):
        load_data(Path("digits"))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "photos.zip").write_text("")
    with pytest.raises(InputError, match=r"a \.zip file is not data; give a folder"):
        load_data(str(tmp_path / "photos.zip"))


def test_a_known_name_wins_over_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits" / "train").mkdir(parents=True)
    assert load_data("digits").name == "digits"
    with pytest.raises(InputError, match="holds no class folders"):
        load_data("./digits")


def test_importing_the_preprocessing_does_not_import_torch():
    code = "import sys, nnslim.data.preprocess; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_arrays_in_memory_do_not_import_torchvision(tmp_path):
    images = random_images(20)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=np.arange(20) % 2)
    code = (
        "import sys; from nnslim.data import Loader, load_data; data = load_data(sys.argv[1]);"
        "list(Loader(data.train, data.preprocess, 4, augment=data.augment));"
        "sys.exit('torchvision' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.npz")]
    assert subprocess.run(command, check=False).returncode == 0
