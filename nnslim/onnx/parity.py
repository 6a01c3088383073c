"""Compare an ONNX file with the network that it was exported from, on several batch sizes.

The measure is the largest difference of any logit, relative to the largest absolute logit of the
same batch: single logits near zero have no meaningful relative error. Correct exports of
torchvision's families were at 1e-6 or below; wrong BatchNorm folding is far above 1e-2.

Some networks amplify rounding so much that no file can keep that bound. They are held to ten times
their rounding noise, and never to more than 1e-2: how far their logits in float32, with the weights
as they are and moved by their last bit (folding a norm rounds them anew), are from those in
float64.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nnslim.errors import ExportMismatchError, InputError
from nnslim.onnx.prepare import PixelsIn, images_for
from nnslim.onnx.running import Session
from nnslim.onnx.session import open_session
from nnslim.settings.session import SessionSettings

__all__ = ["DEFAULT_RTOL", "BatchParity", "Parity", "check_parity"]

DEFAULT_RTOL = 1e-4
_NOISE_TIMES, _NEVER_ABOVE = 10.0, 1e-2


@dataclass(frozen=True)
class BatchParity:
    """The comparison at one batch size.

    Attributes:
        batch: Images per run.
        max_abs: Largest difference of a logit.
        max_rel: ``max_abs`` over the largest absolute logit of the network.
    """

    batch: int
    max_abs: float
    max_rel: float


@dataclass(frozen=True)
class Parity:
    """A comparison that was passed.

    Attributes:
        rtol: The bound on ``max_rel`` that was kept.
        seed: Seed of the random images.
        per_batch: One entry per batch size.
        noise: Where the bound asked for was too tight: how far rounding moves the network's
            logits, relative as ``max_rel`` is. None elsewhere.
    """

    rtol: float
    seed: int
    per_batch: tuple[BatchParity, ...]
    noise: float | None = None

    @property
    def max_abs(self) -> float:
        """Largest difference of a logit over all batch sizes."""
        return max(entry.max_abs for entry in self.per_batch)

    @property
    def max_rel(self) -> float:
        """Largest relative difference over all batch sizes."""
        return max(entry.max_rel for entry in self.per_batch)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {"max_abs": self.max_abs, "max_rel": self.max_rel, **asdict(self)}


def check_parity(
    network: nn.Module,
    target: Session | Path,
    batches: Sequence[int] = (1, 2, 5),
    *,
    rtol: float = DEFAULT_RTOL,
    seed: int = 0,
) -> Parity:
    """Run both on seeded random images (N, C, H, W), in float32 on the CPU for a path.

    Args:
        network: Has ``input_shape`` (C, H, W); it is copied and left as it is. A ``PixelsIn``
            is compared on random pixels.
        target: An open session, or a file to open on the CPU.
        batches: Batch sizes; take some that differ from the one used for export.
        rtol: Largest allowed difference, relative to the largest absolute logit. Where the
            network's rounding is more than a tenth of it, ten times that is allowed.
        seed: Seed of the images.

    Raises:
        ExportMismatchError: The logits differ, or one of the two hard-codes its batch size.
    """
    cpu = SessionSettings(device="cpu")
    session = open_session(target, cpu) if isinstance(target, Path) else target
    reference = copy.deepcopy(network).cpu().float().eval()
    generator = torch.Generator().manual_seed(seed)
    images = [images_for(network, batch, generator) for batch in batches]
    entries = tuple(_parity_of(reference, session, x) for x in images)
    noise = None
    if not all(entry.max_rel <= rtol for entry in entries):  # so that NaN fails, too
        noise = _noise(reference, images)
        rtol = max(rtol, min(_NOISE_TIMES * noise, _NEVER_ABOVE))
    for entry in entries:
        if not entry.max_rel <= rtol:
            raise ExportMismatchError(
                f"{session.path}: at batch {entry.batch} the logits differ from the network's by"
                f" up to {entry.max_abs:.3g}, {entry.max_rel:.3g} of the largest (allowed {rtol:g})"
            )
    return Parity(rtol=rtol, seed=seed, per_batch=entries, noise=noise)


def _parity_of(reference: nn.Module, session: Session, x: torch.Tensor) -> BatchParity:
    expected = _network_logits(reference, x)
    fed = x.permute(0, 3, 1, 2) if isinstance(reference, PixelsIn) else x
    return _compare(expected, _session_logits(session, fed.numpy(), expected.shape))


def _noise(reference: nn.Module, images: Sequence[torch.Tensor]) -> float:
    """How far rounding moves the network's logits; 0 where it does not run in float64."""
    try:
        exact = [
            _network_logits(
                copy.deepcopy(reference).double(), x.double() if x.is_floating_point() else x
            )
            for x in images
        ]
    except ExportMismatchError:
        return 0.0
    rounded = [reference, *(_jittered(reference, seed) for seed in range(3))]
    return max(
        _compare(wanted, _network_logits(network, x)).max_rel
        for network in rounded
        for wanted, x in zip(exact, images, strict=True)
    )


def _jittered(network: nn.Module, seed: int) -> nn.Module:
    """Move every weight by up to one unit in the last place of float32."""
    result, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in result.parameters():
            share = 2 * torch.rand(weight.shape, generator=generator) - 1
            weight.mul_(1 + torch.finfo(torch.float32).eps * share)
    return result


def _network_logits(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    batch = len(x)
    hint = "the network must take any number of images: write x.flatten(1), not x.view(2, -1)"
    try:
        with torch.inference_mode():
            logits: torch.Tensor = network(x)
    except (RuntimeError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        message = f"the network fails on a batch of {batch} images: {first_line}"
        raise ExportMismatchError(message, hint=hint) from error
    if logits.ndim != 2 or len(logits) != batch:
        message = f"{batch} images give logits {tuple(logits.shape)} instead of ({batch}, classes)"
        raise ExportMismatchError(f"the network hard-codes its batch: {message}", hint=hint)
    return logits.numpy()


def _session_logits(session: Session, x: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    try:
        logits = session.run(x)
    except InputError as error:
        raise ExportMismatchError(f"the file hard-codes a batch size: {error.message}") from error
    if logits.shape != wanted:
        message = f"{session.path}: {len(x)} images give logits {logits.shape} instead of {wanted}"
        raise ExportMismatchError(f"{message}: the file hard-codes a batch size")
    return logits


def _compare(wanted: np.ndarray, got: np.ndarray) -> BatchParity:
    difference = float(np.max(np.abs(wanted.astype(np.float64) - got)))
    largest = float(np.max(np.abs(wanted)))
    relative = 0.0 if difference == 0 else difference / max(largest, 1e-30)
    return BatchParity(batch=len(wanted), max_abs=difference, max_rel=relative)
