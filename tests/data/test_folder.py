"""Folders of class folders, good and bad."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from nnslim.data import Loader, Sampling, load_data
from nnslim.data.folder import IMAGENET
from nnslim.errors import InputError
from tests.data.made import preprocess_for, random_images, write_folder, write_png


def test_classes_and_labels_follow_the_folders(class_folders):
    data = load_data(class_folders)
    assert data.classes == ("class0", "class1")
    assert len(data.train) + len(data.val) == 20
    assert len(data.test) == 6
    for split in (data.train, data.val, data.test):
        for file, label in zip(split.files, split.labels, strict=True):
            assert f"class{label}" in file


def test_folder_and_npz_of_the_same_images_give_identical_batches(tmp_path):
    images, labels = random_images(12, side=9), np.sort(np.arange(12) % 3)
    test_images, test_labels = random_images(4, side=9, seed=1), np.array([0, 0, 1, 2])
    write_folder(tmp_path / "f" / "train", images, labels)
    write_folder(tmp_path / "f" / "test", test_images, test_labels)
    np.savez(
        tmp_path / "a.npz",
        train_images=images,
        train_labels=labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    folder, arrays = load_data(tmp_path / "f"), load_data(tmp_path / "a.npz")
    assert folder.augment == arrays.augment
    for side in (9, 6):
        for key in ("train", "val", "test"):
            batches = [
                list(
                    Loader(
                        data.splits[key],
                        preprocess_for(3, side=side),
                        4,
                        sampling=Sampling(shuffle=True),
                    )
                )
                for data in (folder, arrays)
            ]
            for one, other in zip(*batches, strict=True):
                assert torch.equal(one[0], other[0])
                assert torch.equal(one[1], other[1])


def test_small_equal_images_set_the_size_and_others_take_imagenets(tmp_path, class_folders):
    data = load_data(class_folders)
    assert (data.preprocess.size, data.preprocess.resize) == ((8, 8), None)
    assert any("8x8 px, the images' own" in note for note in data.notes)
    assert data.augment.pad == 1
    write_png(class_folders / "train" / "class0" / "wide.png", np.zeros((8, 9, 3), np.uint8))
    data = load_data(class_folders)
    assert data.preprocess == IMAGENET
    assert data.augment.min_area == 0.08
    write_png(tmp_path / "big" / "train" / "a" / "1.png", np.zeros((65, 65, 3), np.uint8))
    assert load_data(tmp_path / "big").preprocess == IMAGENET


def tiny_imagenet(root):
    """Write the layout of TinyImageNet-200 with 2 classes; the test part has no labels."""
    for number, name in enumerate(["n02", "n01"]):
        for index in range(3):
            pixels = random_images(1, seed=10 * number + index)[0]
            write_png(root / "train" / name / "images" / f"{name}_{index}.png", pixels)
        (root / "train" / name / f"{name}_boxes.txt").write_text("box")
    lines = []
    for index, name in enumerate(["n01", "n02", "n02", "n01"]):
        write_png(root / "val" / "images" / f"val_{index}.png", random_images(1, seed=index)[0])
        lines.append(f"val_{index}.png\t{name}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    write_png(root / "test" / "images" / "test_0.png", random_images(1)[0])
    return root


def test_tiny_imagenet_layout(tmp_path):
    root = tiny_imagenet(tmp_path / "tiny")
    data = load_data(root)
    assert data.classes == ("n01", "n02")
    assert data.test.labels.tolist() == [0, 1, 1, 0]
    assert [f.rsplit("_", 1)[1] for f in data.test.files] == ["0.png", "1.png", "2.png", "3.png"]
    assert len(data.train) + len(data.val) == 6
    said = "; ".join(data.notes)
    for part in ("no class folders, so it is not used", "val serves as test", "2 files are not"):
        assert part in said


def test_tiny_imagenet_val_alone_can_be_evaluated(tmp_path):
    root = tiny_imagenet(tmp_path / "tiny")
    shutil.rmtree(root / "train")
    data = load_data(root)
    assert (data.classes, len(data.test)) == (("n01", "n02"), 4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("val_0.png\tn99\t0\t0\t1\t1", "entry 5: train has no class 'n99'"),
        ("val_9.png\tn01\t0\t0\t1\t1", r"entry 5: .*val_9\.png is missing"),
        ("val_0.png", "line 5: no class after 'val_0.png'"),
    ],
)
def test_wrong_annotations_are_named(tmp_path, line, said):
    root = tiny_imagenet(tmp_path / "tiny")
    with (root / "val" / "val_annotations.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=rf"val_annotations\.txt, {said}"):
        load_data(root)


def test_valid_is_val_and_two_names_for_it_are_refused(class_folders):
    shutil.copytree(class_folders / "test", class_folders / "valid")
    assert len(load_data(class_folders).val) == 6
    (class_folders / "val").mkdir()
    with pytest.raises(InputError, match="has both val/ and valid/"):
        load_data(class_folders)


def test_files_of_a_class_are_in_the_order_of_their_paths(tmp_path):
    names = [f"{name}/{index}.png" for name in "hbfadgce" for index in "201"]
    for name in names:
        write_png(tmp_path / "set" / "test" / "a" / name, random_images(1)[0])
    files = load_data(tmp_path / "set").test.files
    assert [file.partition("/test/a/")[2] for file in files] == sorted(names)


def test_hidden_files_and_other_files_are_not_images(class_folders):
    (class_folders / "train" / ".cache").mkdir()
    (class_folders / "train" / "class0" / ".hidden.png").write_text("")
    (class_folders / "train" / "class0" / "notes.txt").write_text("")
    data = load_data(class_folders)
    assert len(data.train) + len(data.val) == 20
    assert "1 files are not images, not used: .txt" in data.notes


def test_empty_class_folder_is_named(class_folders):
    (class_folders / "train" / "class2").mkdir()
    with pytest.raises(InputError, match=r"train/class2: this class folder holds no images"):
        load_data(class_folders)


def test_class_that_train_does_not_have_is_named(class_folders):
    write_png(class_folders / "test" / "class7" / "1.png", random_images(1)[0])
    with pytest.raises(InputError, match=r"test/class7: train has no class of this name"):
        load_data(class_folders)


def test_class_that_test_does_not_have_is_noted(class_folders):
    shutil.rmtree(class_folders / "test" / "class0")
    data = load_data(class_folders)
    assert data.test.labels.tolist() == [1, 1, 1]
    assert "test: 1 of 2 classes have no folder" in data.notes


def test_folder_without_splits_says_what_it_found(tmp_path):
    write_folder(tmp_path / "flat", random_images(4), np.arange(4) % 2)
    with pytest.raises(InputError, match="has no train/, val/ or test/, only class0, class1"):
        load_data(tmp_path / "flat")
    (tmp_path / "bare" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no class folders"):
        load_data(tmp_path / "bare")


def test_unreadable_image_among_the_sampled_is_named(class_folders):
    (class_folders / "train" / "class0" / "0000.png").write_text("no image")
    with pytest.raises(InputError, match=r"0000\.png: not a readable image"):
        load_data(class_folders)
