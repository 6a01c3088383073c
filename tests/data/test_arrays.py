"""Archives of arrays, good and bad."""

from __future__ import annotations

import numpy as np
import pytest

from nnslim.data import load_data
from nnslim.data.statistics import channel_statistics
from nnslim.errors import InputError
from tests.data.made import random_images


def arrays(**changes: object) -> dict[str, object]:
    made = {
        "train_images": random_images(30),
        "train_labels": np.arange(30)[:, None] % 3,
        "val_images": random_images(6, seed=1),
        "val_labels": np.arange(6)[:, None] % 3,
        "test_images": random_images(9, seed=2),
        "test_labels": np.arange(9) % 3,
    }
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def load(tmp_path, **changes):
    np.savez(tmp_path / "set.npz", **arrays(**changes))
    return load_data(tmp_path / "set.npz")


def test_medmnist_archive(tmp_path):
    data = load(tmp_path)
    assert (data.name, data.classes) == ("set.npz", ("0", "1", "2"))
    assert [len(s) for s in (data.train, data.val, data.test)] == [30, 6, 9]
    np.testing.assert_array_equal(data.train.images, random_images(30))
    assert data.train.labels.tolist() == [i % 3 for i in range(30)]
    assert data.preprocess.size == (8, 8)
    said = "; ".join(data.notes)
    assert "numbered 0 to 2" in said
    assert "computed from the train images" in said


def test_statistics_are_those_of_the_training_images(tmp_path):
    data = load(tmp_path)
    pixels = random_images(30).reshape(-1, 3) / 255
    np.testing.assert_allclose(data.preprocess.mean, pixels.mean(axis=0), atol=6e-5)
    np.testing.assert_allclose(data.preprocess.std, pixels.std(axis=0), atol=6e-5)


def test_statistics_do_not_depend_on_the_seed_of_val(tmp_path):
    np.savez(tmp_path / "set.npz", **arrays(val_images=None, val_labels=None))
    one, other = (load_data(tmp_path / "set.npz", seed=seed) for seed in (0, 1))
    assert one.preprocess == other.preprocess
    assert one.val.images.tobytes() != other.val.images.tobytes()


def test_constant_channel_does_not_divide_by_zero():
    assert channel_statistics(np.full((2, 3, 3, 1), 51, np.uint8)) == ((0.2,), (1.0,))


def test_colour_is_mirrored_by_default_and_gray_is_not(tmp_path):
    assert load(tmp_path).augment.flip
    gray = {f"{key}_images": arrays()[f"{key}_images"][..., 0] for key in ("train", "val", "test")}
    data = load(tmp_path, **gray)
    assert not data.augment.flip
    assert data.preprocess.channels == 1
    assert any("not mirrored" in note for note in data.notes)


def test_class_names_are_read(tmp_path):
    assert load(tmp_path, classes=np.array(["a", "b", "c"])).classes == ("a", "b", "c")


def test_unused_keys_are_noted(tmp_path):
    assert "not used: extra" in load(tmp_path, extra=np.zeros(1)).notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": np.array(["a", "b"])}, "train has the label 2 but there are only 2 classes"),
        ({"train_labels": None}, "train_labels is missing"),
        ({"test_images": None}, "test_images is missing"),
        ({"test_labels": np.full(9, -1)}, "test: the lowest label is -1"),
        ({"test_labels": np.zeros(8, int)}, "test has 9 images but 8 labels"),
        ({"train_labels": np.zeros((30, 14), int)}, r"train: labels are int64 of shape \(30, 14\)"),
        ({"train_images": np.zeros((30, 8, 8), np.float32)}, "images are float32, not uint8"),
        ({"test_images": np.zeros((9, 8, 8), np.uint8)}, "have 1 channels .* expects 3"),
        ({"classes": np.array(["a", None], dtype=object)}, "an array cannot be read .*pickle"),
        (
            {"train_images": np.zeros((0, 8, 8), np.uint8), "train_labels": np.zeros(0, int)},
            "no im",
        ),
    ],
)
def test_bad_arrays_are_refused(tmp_path, changes, said):
    with pytest.raises(InputError, match=rf"set\.npz.*{said}"):
        load(tmp_path, **changes)


def test_archive_without_images_lists_its_keys(tmp_path):
    np.savez(tmp_path / "keras.npz", x_train=np.zeros(1), y_train=np.zeros(1))
    with pytest.raises(InputError, match="no images among the keys x_train, y_train"):
        load_data(tmp_path / "keras.npz")


def test_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"set\.npz: not an \.npz archive, or cut off"):
        load_data(path)
    path.write_bytes(whole[:200] + bytes(100) + whole[300:])
    with pytest.raises(InputError, match=r"set\.npz: the archive is damaged"):
        load_data(path)
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(InputError, match=r"set\.npz: not an \.npz archive"):
        load_data(path)
