"""Laws of the loader: what an epoch holds, and what it may depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnslim.data import Augment, Loader, Sampling, Split
from nnslim.data.augment import draw
from nnslim.errors import ConfigError, InputError
from tests.data.made import preprocess_for, random_images, random_split, write_png
from tests.data.test_augment import slow_crop_flip


def epoch_of(loader: Loader, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    loader.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def files_of(split: Split, folder) -> Split:
    """Write the images of a split to files."""
    paths = [folder / f"{number}.png" for number in range(len(split))]
    for path, pixels in zip(paths, split.images, strict=True):
        write_png(path, pixels)
    return Split(split.labels, files=tuple(str(p) for p in paths))


@given(st.integers(1, 30), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(0, 3))
def test_each_sample_appears_once_and_len_is_right(count, batch_size, shuffle, drop_last, epoch):
    split = random_split(count, n_classes=count)
    loader = Loader(
        split,
        preprocess_for(3),
        batch_size,
        sampling=Sampling(shuffle=shuffle, drop_last=drop_last),
    )
    loader.set_epoch(epoch)
    sizes = [len(labels) for _, labels in loader]
    labels = epoch_of(loader, epoch)[1].tolist()
    assert len(sizes) == len(loader)
    assert len(set(labels)) == len(labels)
    if drop_last and count >= batch_size:
        assert sizes == [batch_size] * (count // batch_size)
    else:
        assert sorted(labels) == list(range(count))
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1)


def test_values_are_normalised_in_float32():
    split = random_split(5)
    preprocess = preprocess_for(3)
    images, labels = epoch_of(Loader(split, preprocess, 2))
    want = (split.images / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.is_contiguous()
    np.testing.assert_allclose(images, want.transpose(0, 3, 1, 2), rtol=0, atol=2e-6)
    assert labels.tolist() == split.labels.tolist()


def test_epoch_equals_the_slow_augmentation_of_each_image():
    split = random_split(9, n_classes=9)
    preprocess = preprocess_for(3)
    augment = Augment(pad=2, flip=True)
    loader = Loader(split, preprocess, 4, sampling=Sampling(shuffle=True, seed=5), augment=augment)
    images, labels = epoch_of(loader, epoch=2)
    draws = draw(augment, 9, seed=5, epoch=2)
    for image, label in zip(images, labels.tolist(), strict=True):
        (top, left), flip = draws.shift[label].tolist(), bool(draws.flip[label])
        pixels = slow_crop_flip(split.images[label], top, left, flip, 2)
        want = (pixels / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)
        np.testing.assert_allclose(image, want.transpose(2, 0, 1), rtol=0, atol=2e-6)


def test_same_seed_and_epoch_give_the_same_batches_and_others_do_not():
    split = random_split(40, n_classes=40)

    def run(seed, epoch):
        loader = Loader(
            split,
            preprocess_for(3),
            8,
            sampling=Sampling(shuffle=True, seed=seed),
            augment=Augment(1, flip=True),
        )
        return epoch_of(loader, epoch)

    images, labels = run(1, 2)
    torch.manual_seed(123)
    again = run(1, 2)
    assert torch.equal(images, again[0])
    assert torch.equal(labels, again[1])
    for seed, epoch in [(1, 3), (2, 2), (2, 1)]:
        other = run(seed, epoch)
        assert not torch.equal(labels, other[1])
        same_order = other[0][torch.argsort(other[1])] == images[torch.argsort(labels)]
        assert not same_order.all()


# On one core torch warns that two workers are many.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(
    "augment", [None, Augment(3, flip=True), Augment(0, flip=True, min_area=0.2)]
)
def test_workers_change_nothing(tmp_path, augment):
    split = files_of(random_split(11, side=70), tmp_path)

    def run(workers):
        loader = Loader(
            split,
            preprocess_for(3, side=66, resize=68),
            4,
            sampling=Sampling(shuffle=True, seed=3),
            augment=augment,
            workers=workers,
        )
        return epoch_of(loader, 1)

    before = torch.random.get_rng_state()
    images, labels = run(0)
    assert torch.equal(before, torch.random.get_rng_state())
    parallel = run(2)
    assert torch.equal(images, parallel[0])
    assert torch.equal(labels, parallel[1])


@pytest.mark.parametrize("augment", [None, Augment(3, flip=True)])
def test_being_in_memory_changes_nothing(tmp_path, augment):
    memory = random_split(7, side=66)
    loaders = [
        Loader(
            split, preprocess_for(3, side=66), 3, sampling=Sampling(shuffle=True), augment=augment
        )
        for split in (memory, files_of(memory, tmp_path))
    ]
    assert loaders[0]._images is not None
    assert loaders[1]._images is None
    assert torch.equal(epoch_of(loaders[0])[0], epoch_of(loaders[1])[0])


def test_small_files_are_held_in_memory_and_agree_with_arrays(tmp_path):
    memory = random_split(6, side=12)
    preprocess = preprocess_for(3, side=8, resize=10)
    from_files = Loader(files_of(memory, tmp_path), preprocess, 4)
    assert from_files._images is not None
    assert torch.equal(epoch_of(from_files)[0], epoch_of(Loader(memory, preprocess, 4))[0])


def test_arrays_are_enlarged_batch_by_batch_when_the_result_is_large():
    loader = Loader(random_split(3), preprocess_for(3, side=96), 2)
    assert loader._images is None
    assert epoch_of(loader)[0].shape == (3, 3, 96, 96)


def test_random_crops_differ_between_images_and_epochs(tmp_path):
    image = random_images(1, side=70)
    split = Split(np.zeros(4, np.int64), np.repeat(image, 4, axis=0))
    augment = Augment(0, flip=False, min_area=0.1)
    loader = Loader(split, preprocess_for(3, side=70), 4, augment=augment)
    images = torch.cat([epoch_of(loader, epoch)[0] for epoch in (0, 1)])
    assert len({row.numpy().tobytes() for row in images}) == 8


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_one_input_error_that_names_it(tmp_path, workers):
    split = files_of(random_split(6, side=66), tmp_path)
    (tmp_path / "4.png").write_text("no image")
    loader = Loader(split, preprocess_for(3, side=66), 2, workers=workers)
    with pytest.raises(InputError, match=r"4\.png: not a readable image") as caught:
        list(loader)
    assert "Traceback" not in str(caught.value)


def test_gray_files_feed_a_colour_network_and_the_reverse(tmp_path):
    for have, want in [(1, 3), (3, 1)]:
        folder = tmp_path / str(have)
        split = files_of(random_split(2, channels=have), folder)
        images, _ = epoch_of(Loader(split, preprocess_for(want), 2))
        assert images.shape == (2, want, 8, 8)


def test_wrong_channels_are_refused_before_the_first_batch():
    with pytest.raises(InputError, match=r"have 1 channels .* expects 3"):
        Loader(random_split(2, channels=1), preprocess_for(3), 2)


def test_an_empty_batch_is_refused():
    with pytest.raises(ConfigError, match="a batch of 0 images"):
        Loader(random_split(2), preprocess_for(3), 0)
