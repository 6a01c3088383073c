"""What a data set checks, fills in and says."""

from __future__ import annotations

import numpy as np
import pytest

from nnslim.data import Augment, Data, Split
from nnslim.data.dataset import complete_splits
from nnslim.errors import InputError
from tests.data.made import preprocess_for, random_images


def data_of(n_classes: int = 4, **sizes: int) -> Data:
    """Make splits whose images all differ."""
    splits = {
        key: Split(np.arange(n) % n_classes, random_images(n, seed=number), name=key)
        for number, (key, n) in enumerate(sizes.items())
    }
    classes = tuple(str(c) for c in range(n_classes))
    return Data("made", classes, preprocess_for(3), splits, Augment(1, flip=True))


def rows(split: Split) -> list[bytes]:
    return [image.tobytes() for image in split.images]


def test_val_is_a_tenth_of_train_disjoint_and_stratified():
    whole = data_of(train=400, test=8)
    data = complete_splits(whole, seed=0)
    assert len(data.val) == 40
    assert np.bincount(data.val.labels).tolist() == [10, 10, 10, 10]
    assert not set(rows(data.val)) & set(rows(data.train))
    assert sorted(rows(data.val) + rows(data.train)) == sorted(rows(whole.train))
    assert "val: 40 images split off train (stratified, seed 0)" in data.notes


def test_val_follows_the_seed_and_is_at_most_5000():
    whole = data_of(train=400, test=8)
    one, same, other = (rows(complete_splits(whole, seed=s).val) for s in (1, 1, 2))
    assert one == same != other
    labels = np.arange(60_000) % 10
    many = Split(labels, np.zeros((60_000, 1, 1), np.uint8))
    big = Data("big", tuple("0123456789"), preprocess_for(1), {"train": many}, Augment(0, False))
    assert len(complete_splits(big, seed=0).val) == 5000


def test_a_given_val_is_left_alone():
    data = data_of(train=40, val=8, test=8)
    assert complete_splits(data, seed=0) == data


def test_val_serves_as_a_missing_test_and_a_new_val_is_split_off():
    whole = data_of(train=40, val=8)
    data = complete_splits(whole, seed=0)
    assert rows(data.test) == rows(whole.val)
    assert len(data.val) == 4
    assert any("val serves as test" in note for note in data.notes)


def test_without_test_images_it_says_so_and_fails_when_they_are_used():
    data = complete_splits(data_of(train=40), seed=0)
    assert any("no test accuracy" in note for note in data.notes)
    assert not data.has("test")
    with pytest.raises(InputError, match="made has no test images, only train, val"):
        _ = data.test


def test_one_image_per_class_cannot_spare_any_for_val():
    data = complete_splits(data_of(train=4, test=4), seed=0)
    assert len(data.train) == 4
    assert any("too small" in note for note in data.notes)
    with pytest.raises(InputError, match="no val images"):
        _ = data.val


@pytest.mark.parametrize("count", [1, 4, 396])
def test_as_many_images_validate_as_are_asked_for(count: int):
    whole = data_of(train=400, test=8)
    data = complete_splits(whole, seed=0, validation=count)
    assert len(data.val) == count
    assert sorted(rows(data.val) + rows(data.train)) == sorted(rows(whole.train))


def test_without_validation_all_images_are_trained_on_in_their_order():
    whole = data_of(train=40, test=8)
    data = complete_splits(whole, seed=0, validation=0)
    assert rows(data.train) == rows(whole.train)
    assert not data.has("val")
    assert data.notes[-1] == "val: no image validates, all are trained on"


@pytest.mark.parametrize("count", [0, 12])
def test_a_given_val_joins_train_where_another_is_asked_for(count: int):
    whole = data_of(train=40, val=8, test=8)
    data = complete_splits(whole, seed=0, validation=count)
    parts = rows(data.train) + (rows(data.val) if count else [])
    assert len(data.train) == 48 - count
    assert sorted(parts) == sorted(rows(whole.train) + rows(whole.val))
    assert "train: the 8 validation images join it" in data.notes


@pytest.mark.parametrize(
    ("splits", "count", "message"),
    [
        ({"train": 40, "test": 4}, 41, "41 of 40 training images to validate"),
        ({"train": 40, "test": 4}, 37, "leave none of some class to train on"),
        ({"test": 4}, 4, "has no training images"),
    ],
)
def test_a_validation_part_that_cannot_be_is_refused(
    splits: dict[str, int], count: int, message: str
):
    with pytest.raises(InputError, match=message):
        complete_splits(data_of(**splits), seed=0, validation=count)


def test_accuracy_is_measured_on_test_images_or_on_val_or_not_at_all():
    assert complete_splits(data_of(train=40, test=4), seed=0).measured == "test"
    assert complete_splits(data_of(train=40), seed=0).measured == "val"
    with pytest.raises(InputError, match="leaves no images to measure accuracy on"):
        _ = complete_splits(data_of(train=40), seed=0, validation=0).measured


def test_only_test_images_are_enough_to_evaluate():
    data = complete_splits(data_of(test=4), seed=0)
    assert len(data.test) == 4
    with pytest.raises(InputError, match="no train images"):
        _ = data.train


def test_subset_keeps_shares_and_is_noted():
    data = data_of(train=100, test=4).with_subset(20, seed=3)
    assert np.bincount(data.train.labels).tolist() == [5, 5, 5, 5]
    assert data.notes[-1].startswith("train: 20 of 100 images")
    with pytest.raises(InputError, match="a subset of 101 of 100 training images"):
        data_of(train=100).with_subset(101, seed=0)


def test_number_of_outputs_has_to_match():
    data_of(train=8).require_classes(4)
    with pytest.raises(InputError, match="made has 4 classes but the network has 10 outputs"):
        data_of(train=8).require_classes(10)


def test_a_label_without_a_class_is_refused():
    split = Split(np.array([0, 1, 2]), random_images(3))
    with pytest.raises(InputError, match="train has the label 2 but there are only 2 classes"):
        Data("mine", ("a", "b"), preprocess_for(3), {"train": split}, Augment(0, flip=False))


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({}, "missing"),
        ({"training": Split(np.array([0]), random_images(1))}, "training"),
        ({"train": Split(np.zeros(0, np.int64), random_images(0))}, "train holds no images"),
    ],
)
def test_no_splits_unknown_splits_and_empty_splits_are_refused(splits, said):
    with pytest.raises(InputError, match=said):
        Data("mine", ("a",), preprocess_for(3), splits, Augment(0, flip=False))
