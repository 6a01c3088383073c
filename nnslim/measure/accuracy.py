"""Top-1 and top-5 accuracy, of an ONNX file in onnxruntime and of a network in torch.

Letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from nnslim.errors import InputError
from nnslim.measure.overlap import Stopwatch

if TYPE_CHECKING:
    from nnslim.onnx import Session

__all__ = ["Accuracy", "network_accuracy", "onnx_accuracy", "run_padded", "top_k_accuracy"]


@dataclass(frozen=True)
class Accuracy:
    """The result on one data set.

    Attributes:
        top1_pct: Images whose largest logit is their label's, in percent.
        top5_pct: Images whose label is among the five largest; None with five classes or fewer.
        n: Number of images.
        loss: Mean cross-entropy in nats; None where a logit is not finite.
        n_not_finite: Images with a NaN or infinite logit; they count as wrong.
        correct: (N,) bool, top-1 per image in the order of the data.
        predicted: (N,) int64, the class with the largest logit; -1 where a logit is not finite.
    """

    top1_pct: float
    top5_pct: float | None
    n: int
    loss: float | None
    n_not_finite: int
    correct: np.ndarray = field(repr=False, compare=False)
    predicted: np.ndarray = field(repr=False, compare=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        if not self.n_not_finite:
            return ()
        return (f"{self.n_not_finite} of {self.n} images have NaN or infinite logits: wrong",)


def top_k_accuracy(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], n_classes: int | None = None
) -> Accuracy:
    """Score a stream of logits (N, K) and labels (N,); of equal logits the first class wins.

    Args:
        batches: Pairs of logits and labels.
        n_classes: What K must be; None only demands that every label is below K.

    Raises:
        InputError: No image at all, or K does not fit the data.

    Example:
        >>> logits = np.array([[0.0, 2.0], [1.0, 0.5]])
        >>> top_k_accuracy([(logits, np.array([1, 1]))]).top1_pct
        50.0
    """
    parts: list[tuple[np.ndarray, ...]] = []
    n_logits = 0
    for logits, labels in batches:
        _check_classes(logits, labels, n_classes)
        parts.append(_scored(logits.astype(np.float64), labels))
        n_logits = logits.shape[1]
    if not parts:
        raise InputError("the data has no images to measure accuracy on")
    rank, loss, finite, predicted = (np.concatenate(part) for part in zip(*parts, strict=True))
    correct = rank < 1
    return Accuracy(
        top1_pct=100 * int(correct.sum()) / len(rank),
        top5_pct=100 * int((rank < 5).sum()) / len(rank) if n_logits > 5 else None,
        n=len(rank),
        loss=float(loss.mean()) if finite.all() else None,
        n_not_finite=int((~finite).sum()),
        correct=correct,
        predicted=predicted,
    )


def _scored(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rank of the label, loss, whether all scores are finite, and the class, (N,) each."""
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    scores[~finite] = 0.0
    rank = np.where(finite, _rank(scores, labels), scores.shape[1])
    return rank, _cross_entropy(scores, labels), finite, np.where(finite, scores.argmax(axis=1), -1)


def onnx_accuracy(
    session: Session,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    n_classes: int | None = None,
    watch: Stopwatch | None = None,
) -> Accuracy:
    """Score an open file on batches of images (N, C, H, W) and labels (N,).

    A session with a fixed batch gets each batch in pieces of that size, the last one filled up
    with zeros whose logits are dropped. ``n_classes`` is as in ``top_k_accuracy``; the watch counts
    the time that onnxruntime takes.

    Raises:
        InputError: The images or the classes do not fit the file.
    """
    watch = watch or Stopwatch()
    run = partial(run_padded, session)
    pairs = ((watch.call(run, images.numpy()), labels.numpy()) for images, labels in batches)
    return top_k_accuracy(pairs, n_classes)


def network_accuracy(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device | str = "cpu",
    n_classes: int | None = None,
) -> Accuracy:
    """Score a torch network, already on ``device``; its modes are as before afterwards.

    Raises:
        InputError: The classes do not fit the network.
    """
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        return top_k_accuracy(_network_logits(network, batches, torch.device(device)), n_classes)
    finally:
        for module in training:
            module.training = True


def _network_logits(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, labels in batches:
        with torch.inference_mode():
            logits = network(images.to(device, non_blocking=True))
        yield logits.float().cpu().numpy(), labels.numpy()


def run_padded(session: Session, images: np.ndarray) -> np.ndarray:
    """Return logits (N, K) of any number of images (N, C, H, W), also of a file of fixed batch."""
    size = session.batch
    if size is None or size == len(images):
        return _flat(session.run(images))
    logits: list[np.ndarray] = []
    for start in range(0, len(images), size):
        piece = images[start : start + size]
        missing = size - len(piece)
        filled = np.pad(piece, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else piece
        logits.append(_flat(session.run(filled))[: len(piece)])
    return np.concatenate(logits)


def _flat(logits: np.ndarray) -> np.ndarray:
    """Drop the sizes of 1 after (N, K) that a network without a flatten leaves."""
    if logits.ndim > 2 and logits.size == logits.shape[0] * logits.shape[1]:
        return logits.reshape(logits.shape[:2])
    return logits


def _check_classes(logits: np.ndarray, labels: np.ndarray, n_classes: int | None) -> None:
    if logits.ndim != 2 or len(logits) != len(labels):
        raise InputError(f"{len(labels)} images gave logits of shape {logits.shape}, not (N, K)")
    wanted = n_classes if n_classes is not None else int(labels.max()) + 1
    if logits.shape[1] != wanted if n_classes is not None else logits.shape[1] < wanted:
        data = f"{wanted} classes" if n_classes is not None else f"a label {wanted - 1}"
        hint = "take the data that it was trained for, or another network"
        raise InputError(f"the network has {logits.shape[1]} classes, the data {data}", hint=hint)


def _rank(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the label's; ties go to the lower index, as in argmax."""
    score = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return ((scores > score) | ((scores == score) & earlier)).sum(axis=1)


def _cross_entropy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
