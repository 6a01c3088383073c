"""Splits, and how images are read and brought to size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nnslim.data import Split
from nnslim.data.images import fit_image, read_image
from nnslim.errors import InputError
from tests.data.made import preprocess_for, random_images, random_split, write_png


def test_subset_takes_the_samples_at_the_indices_in_their_order():
    split = random_split(10, n_classes=10)
    part = split.subset([7, 2, 2])
    assert part.labels.tolist() == [7, 2, 2]
    np.testing.assert_array_equal(part.images, split.images[[7, 2, 2]])
    files = Split(np.arange(3), files=("a", "b", "c")).subset(np.array([2, 0]))
    assert list(files.files) == ["c", "a"]
    assert len(files) == 2


def test_joined_has_the_samples_of_both_in_order():
    one, other = random_split(3), random_split(2)
    both = one.joined(other)
    assert both.labels.tolist() == [*one.labels, *other.labels]
    assert (both.images == np.concatenate([one.images, other.images])).all()
    files = Split(np.array([1]), files=["a.png"]).joined(Split(np.array([0]), files=["b.png"]))
    assert (files.labels.tolist(), list(files.files)) == ([1, 0], ["a.png", "b.png"])


def test_images_of_two_forms_are_not_joined():
    small = Split(np.array([0]), np.zeros((1, 8, 8), np.uint8), name="train")
    large = Split(np.array([0]), np.zeros((1, 9, 9), np.uint8), name="val")
    with pytest.raises(InputError, match=r"train is of shape \(8, 8, 1\) and val is of shape"):
        small.joined(large)
    with pytest.raises(InputError, match=r"train is of shape .* and images is files"):
        small.joined(Split(np.array([0]), files=["a.png"]))


def test_gray_images_get_one_channel_and_column_labels_are_flattened():
    split = Split(np.array([[1], [0]]), np.zeros((2, 5, 4), np.uint8))
    assert split.images.shape == (2, 5, 4, 1)
    assert split.labels.tolist() == [1, 0]
    assert split.labels.dtype == np.int64


def test_read_only_images_are_accepted():
    images = random_images(4)
    images.flags.writeable = False
    loaded = Split(np.zeros(4, np.int64), images)
    assert loaded.images.flags.writeable


@pytest.mark.parametrize(
    ("labels", "images", "said"),
    [
        ([0, 1], np.zeros((2, 8, 8), np.float32), "images are float32, not uint8"),
        ([0, 1], np.zeros((2, 8), np.uint8), r"shape \(2, 8\)"),
        ([0, 1], np.zeros((2, 0, 8), np.uint8), r"shape \(2, 0, 8, 1\)"),
        ([0, 1], np.zeros((2, 3, 8, 8), np.uint8), "8 channels .channels first.."),
        ([0, 1], np.zeros((2, 9, 9, 9), np.uint8), "9 channels"),
        ([0, 1, 1], np.zeros((2, 8, 8), np.uint8), "2 images but 3 labels"),
        ([0.5, 1], np.zeros((2, 8, 8), np.uint8), "labels are float64"),
        ([[0, 1], [1, 0]], np.zeros((2, 8, 8), np.uint8), r"shape \(2, 2\)"),
        ([0, -1], np.zeros((2, 8, 8), np.uint8), "lowest label is -1"),
    ],
)
def test_what_is_not_images_and_labels_is_refused(labels, images, said):
    with pytest.raises(InputError, match=f"mine.*{said}"):
        Split(np.array(labels), images, name="mine")


def test_files_are_read_as_gray_or_colour(tmp_path):
    colour = random_images(1, side=6)[0]
    write_png(tmp_path / "colour.png", colour)
    write_png(tmp_path / "gray.png", colour[:, :, :1])
    np.testing.assert_array_equal(read_image(str(tmp_path / "colour.png"), 3), colour)
    gray = read_image(str(tmp_path / "colour.png"), 1)
    want = colour @ np.array([0.299, 0.587, 0.114])
    assert gray.shape == (6, 6, 1)
    assert np.abs(gray[:, :, 0] - want).max() < 1
    three = read_image(str(tmp_path / "gray.png"), 3)
    np.testing.assert_array_equal(three, np.repeat(colour[:, :, :1], 3, axis=2))


def test_sixteen_bits_keep_the_upper_byte(tmp_path):
    values = np.array([[0, 255], [256, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert read_image(str(tmp_path / "deep.png"), 1)[:, :, 0].tolist() == [[0, 0], [1, 255]]


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "CMYK", "1"])
def test_every_stored_form_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    source = Image.fromarray(random_images(1)[0]).convert(mode)
    source.save(path)
    np.testing.assert_array_equal(read_image(str(path), 3), np.asarray(source.convert("RGB")))


def damage(path, how):
    match how:
        case "text":
            path.write_text("no image")
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:-60])
        case "missing":
            path.unlink()
        case "float":
            Image.fromarray(np.zeros((4, 4), np.float32)).save(path, format="TIFF")


@pytest.mark.parametrize("how", ["text", "empty", "cut", "missing", "float"])
def test_unreadable_file_is_named(tmp_path, how):
    path = tmp_path / "broken.png"
    write_png(path, random_images(1, side=32)[0])
    damage(path, how)
    with pytest.raises(InputError, match=r"broken\.png: not a readable image"):
        read_image(str(path), 3)
    split = Split(np.zeros(1, np.int64), files=(str(path),))
    with pytest.raises(InputError, match=r"broken\.png"):
        split.fitted(preprocess_for(3))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("channels", [1, 3])
def test_fitting_agrees_with_pillow(interpolation, channels):
    # Noise, because only there does leaving out the antialiasing show.
    image = np.random.default_rng(0).integers(0, 256, (40, 60, channels), np.uint8)
    preprocess = preprocess_for(channels, side=16, resize=20, interpolation=interpolation)
    source = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    method = Image.Resampling[interpolation.upper()]
    # The shorter side becomes 20, so 60 x 40 becomes 30 x 20; its centre is (7, 2, 23, 18).
    want = np.asarray(source.resize((30, 20), method).crop((7, 2, 23, 18)))
    got = fit_image(image, preprocess).astype(int)
    assert np.abs(got - want.reshape(16, 16, channels)).max() <= 1


def test_fitting_leaves_a_fitted_image_alone_and_scales_without_resize():
    image = random_images(1)[0]
    assert fit_image(image, preprocess_for(3)) is image
    assert fit_image(image, preprocess_for(3, resize=8)) is image
    assert not np.array_equal(fit_image(image, preprocess_for(3, resize=10)), image)
    assert fit_image(image, preprocess_for(3, side=5)).shape == (5, 5, 3)


def test_files_are_decoded_once(tmp_path):
    write_png(tmp_path / "one.png", random_images(1)[0])
    split = Split(np.zeros(1, np.int64), files=(str(tmp_path / "one.png"),))
    first = split.fitted(preprocess_for(3))
    (tmp_path / "one.png").unlink()
    assert split.fitted(preprocess_for(3)) is first
    with pytest.raises(InputError):
        split.fitted(preprocess_for(1))


@pytest.mark.parametrize(("have", "want"), [(3, 1), (1, 3), (4, 3)])
def test_arrays_of_other_channels_are_refused_with_both_numbers(have, want):
    split = random_split(3, channels=have)
    with pytest.raises(InputError, match=f"random: the images have {have} .* expects {want}"):
        split.fitted(preprocess_for(want))


def test_files_cannot_give_two_channels(tmp_path):
    split = Split(np.zeros(1, np.int64), files=("a.png",), name="photos")
    with pytest.raises(InputError, match=r"photos: .* not 2"):
        split.require_channels(2)
