"""Accuracy of a file: decoding ahead, in workers or once for several files changes no logit."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nnslim.data import Augment, Data, Loader, Preprocess, Sampling, Split
from nnslim.errors import ConfigError, InputError
from nnslim.measure.accuracy import onnx_accuracy
from nnslim.measure.evaluation import evaluate
from nnslim.measure.results import EvalFile
from nnslim.measure.scoring import images_per_run, score
from nnslim.onnx import open_session
from nnslim.settings.eval import EvalSettings
from nnslim.settings.session import SessionSettings

FITTED = Preprocess(size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), resize=12)
SETTINGS = EvalSettings(SessionSettings("cpu", threads=1), (), accuracy_batch=8)


def folder(place: Path, count: int = 21) -> Data:
    generator = np.random.default_rng(0)
    files = [str(place / f"{n}.png") for n in range(count)]
    for file in files:
        Image.fromarray(generator.integers(0, 256, (14, 17, 3), np.uint8)).save(file)
    split = Split(generator.integers(0, 10, count), files=files)
    names = tuple("abcdefghij")
    return Data("files", names, FITTED, {"test": split}, Augment(pad=0, flip=False))


class Recorded:
    """A session that keeps the logits that it gave."""

    def __init__(self, path: Path) -> None:
        self.session = open_session(path, SessionSettings(device="cpu", threads=1))
        self.logits: list[np.ndarray] = []

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, x):
        self.logits.append(self.session.run(x))
        return self.logits[-1]


@pytest.fixture
def bare(onnx_path):
    """A file without preprocessing of its own."""
    session = Recorded(onnx_path)
    session.metadata = {}
    return session


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_logits_are_those_of_a_plain_loop_to_the_bit(bare, onnx_path, workers, keep, tmp_path):
    data = folder(tmp_path)
    plain = Recorded(onnx_path)
    wanted = onnx_accuracy(plain, iter(list(Loader(data.test, FITTED, 8))), 10)
    fresh = replace(data, splits={"test": data.test.subset(range(21))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch counts the cores
        found = score(bare, fresh, replace(SETTINGS, workers=workers), FITTED, keep=keep)
    assert [own.tobytes() for own in bare.logits] == [own.tobytes() for own in plain.logits]
    assert (found.accuracy, found.accuracy.loss) == (wanted, wanted.loss)
    np.testing.assert_array_equal(found.accuracy.predicted, wanted.predicted)
    assert 0 < found.busy <= 1
    assert found.images_per_s > 0


def test_several_files_decode_an_image_once(onnx_path, tmp_path, monkeypatch):
    data = folder(tmp_path)
    read, opened = Image.open, []

    def counted(path, *args, **kwargs):
        opened.append(str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", counted)
    report = evaluate([EvalFile(onnx_path), EvalFile(onnx_path)], data, SETTINGS)
    assert sorted(opened) == sorted(data.test.files)
    first, second = report.files
    np.testing.assert_array_equal(first.accuracy.predicted, second.accuracy.predicted)
    assert first.accuracy == second.accuracy


def test_what_was_kept_serves_other_colours_and_no_other_size(tmp_path):
    split = folder(tmp_path).test
    wanted = list(Loader(split.subset(range(21)), at(8), 8))
    list(Loader(split, FITTED, 8, keep=True))
    for file in split.files:
        Path(file).unlink()
    for found, own in zip(Loader(split, at(8), 8, keep=True), wanted, strict=True):
        assert torch.equal(found[0], own[0])
        assert torch.equal(found[1], own[1])
    with pytest.raises(InputError, match=r"0\.png"):
        list(Loader(split, at(10), 8, keep=True))


def test_an_epoch_that_was_left_keeps_nothing(tmp_path):
    split = folder(tmp_path).test
    batches = iter(Loader(split, FITTED, 8, keep=True))
    next(batches)
    batches.close()
    assert split.kept(FITTED) is None
    list(Loader(split, FITTED, 8, sampling=Sampling(shuffle=True), keep=True))
    kept = split.kept(FITTED)
    assert kept is not None
    np.testing.assert_array_equal(kept.images, split.subset(range(21)).fitted(FITTED).images)


def test_augmented_images_are_not_kept(tmp_path):
    with pytest.raises(ConfigError, match="not kept"):
        Loader(folder(tmp_path).test, FITTED, 8, augment=Augment(pad=1, flip=True), keep=True)


@pytest.mark.parametrize(("side", "wanted"), [(8, 100), (102, 100), (224, 20), (2000, 1)])
def test_large_images_come_in_smaller_batches(side, wanted):
    assert images_per_run(EvalSettings(), at(side)) == wanted
    assert images_per_run(EvalSettings(accuracy_batch=7), at(side)) == 7


def at(side: int) -> Preprocess:
    return Preprocess(size=(side, side), mean=(0.5,) * 3, std=(0.5,) * 3, resize=side + 4)
