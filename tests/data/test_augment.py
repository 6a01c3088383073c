"""The vectorised crop and flip against a slow one, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnslim.data.augment import Augment, crop_flip, draw
from nnslim.errors import ConfigError


def slow_crop_flip(image: np.ndarray, top: int, left: int, mirrored: bool, pad: int) -> np.ndarray:
    """One pixel at a time: what is outside of the image is black."""
    height, width, _ = image.shape
    out = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            source_y, source_x = y + top - pad, x + left - pad
            if 0 <= source_y < height and 0 <= source_x < width:
                out[y, width - 1 - x if mirrored else x] = image[source_y, source_x]
    return out


@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 4), st.integers(0, 99)
)
def test_batch_equals_image_by_image(height, width, channels, pad, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 256, (7, height, width, channels), np.uint8)
    draws = draw(Augment(pad=pad, flip=True), 7, seed=seed, epoch=3)
    got = crop_flip(torch.from_numpy(images), draws.shift, draws.flip, pad).numpy()
    rows = zip(images, draws.shift.tolist(), draws.flip.tolist(), strict=True)
    want = [slow_crop_flip(image, top, left, flip, pad) for image, (top, left), flip in rows]
    np.testing.assert_array_equal(got, np.stack(want))


def test_every_shift_and_both_directions_are_drawn_evenly():
    draws = draw(Augment(pad=2, flip=True), 50_000, seed=0, epoch=0)
    cells = np.bincount(draws.shift[:, 0] * 5 + draws.shift[:, 1], minlength=25)
    assert cells.min() > 1800  # 2000 expected, standard deviation 44
    assert cells.max() < 2200
    assert abs(draws.flip.float().mean() - 0.5) < 0.01
    together = np.corrcoef(np.column_stack([draws.shift, draws.flip]).T)
    assert np.abs(together - np.eye(3)).max() < 0.02


def test_draws_depend_on_seed_and_epoch_only():
    augment = Augment(pad=4, flip=True)
    base = draw(augment, 100, seed=1, epoch=2)
    torch.manual_seed(9)
    np.random.seed(9)  # noqa: NPY002 - the global state must not matter
    assert torch.equal(base.shift, draw(augment, 100, seed=1, epoch=2).shift)
    for seed, epoch in [(1, 3), (2, 2), (2, 1)]:
        assert not torch.equal(base.shift, draw(augment, 100, seed=seed, epoch=epoch).shift)


def test_without_flip_nothing_is_mirrored():
    assert not draw(Augment(pad=1, flip=False), 1000, seed=0, epoch=0).flip.any()


@pytest.mark.parametrize(("pad", "area"), [(-1, 1.0), (0, 0.0), (0, 1.5)])
def test_impossible_augmentations_are_refused(pad, area):
    with pytest.raises(ConfigError, match=f"pad {pad} and min_area {area}"):
        Augment(pad=pad, flip=False, min_area=area)


@given(st.integers(1, 5), st.integers(0, 9), st.integers(0, 9))
def test_views_come_again_in_every_training_and_are_told_apart(
    views: int, seed: int, epoch: int
) -> None:
    augment = Augment(pad=4, flip=True, views=views)
    drawn = [draw(augment, 500, seed=seed, epoch=epoch + later).shift for later in range(views + 1)]
    assert torch.equal(drawn[0], drawn[-1])
    seen = {tuple(own.flatten().tolist()) for own in drawn}
    assert len(seen) == views
    assert seen == {
        tuple(draw(augment, 500, seed=0, epoch=view).shift.flatten().tolist())
        for view in range(views)
    }


def test_no_view_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 views of every image"):
        Augment(pad=1, flip=False, views=0)
