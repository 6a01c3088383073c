"""A ``torch.export`` archive (``.pt2``) of a network, which plain torch reads without nnslim."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from nnslim.artifact.replacing import check_place, new_file
from nnslim.errors import ExportMismatchError, InputError, UnsupportedModelError
from nnslim.network.network import Network
from nnslim.version import __version__

__all__ = ["ArchiveReport", "export_archive"]

_FACTS = "nnslim.json"
_RTOL = 1e-5


@dataclass(frozen=True)
class ArchiveReport:
    """What was written.

    Attributes:
        path: The file.
        sha256: Its hash.
        n_bytes: Its size.
        batch: Fixed number of images per run, or None for any.
        max_rel: Largest difference of a logit to the network's, over the largest logit.
        batches: Images per run that this was compared on.
    """

    path: Path
    sha256: str
    n_bytes: int
    batch: int | None
    max_rel: float
    batches: tuple[int, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {**asdict(self), "path": str(self.path), "batches": list(self.batches)}


def export_archive(network: Network, path: Path, *, batch: int | None = None) -> ArchiveReport:
    """Write a float32 evaluation copy; an existing file is replaced only by a verified one.

    ``torch.export.load(path).module()(x)`` gives logits (N, K) of images (N, C, H, W) in plain
    torch. Preprocessing and class names are in the archive's extra file ``nnslim.json``.

    Args:
        network: It is not changed.
        path: Where to write; torch demands the suffix ``.pt2``.
        batch: Images per run, or None for any number.

    Raises:
        InputError: Another suffix, or the file cannot be written.
        UnsupportedModelError: The network fixes its batch size.
        ExportMismatchError: What was written computes something else.

    Example:
        >>> import tempfile; from pathlib import Path; from nnslim.network import trace_network
        >>> net = trace_network(torch.nn.Flatten(), torch.zeros(2, 3, 1, 1))
        >>> place = Path(tempfile.mkdtemp()) / "net.pt2"
        >>> export_archive(net, place).batches
        (1, 2, 5)
    """
    if path.suffix != ".pt2":
        raise InputError(f"{path}: an archive of torch.export ends in .pt2")
    check_place(path)
    frozen = copy.deepcopy(network).cpu().float().eval()
    batches = (1, 2, 5) if batch is None else (batch,)
    program = _exported(frozen, batch)
    with new_file(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(program, temporary, extra_files={_FACTS: _facts(frozen)})
        max_rel = _largest_difference(frozen, temporary, batches)
        content = temporary.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return ArchiveReport(path, digest, len(content), batch, max_rel, batches)


def _facts(network: Network) -> str:
    facts = {
        "version": __version__,
        "preprocess": network.preprocess and network.preprocess.to_json(),
        "classes": network.classes and list(network.classes),
    }
    return json.dumps(facts)


def _exported(network: Network, batch: int | None) -> torch.export.ExportedProgram:
    any_batch = (({0: torch.export.Dim.DYNAMIC},),)  # ``forward(*inputs)`` wants one more level
    try:
        return torch.export.export(
            network,
            (torch.zeros(batch or 2, *network.input_shape),),
            dynamic_shapes=any_batch if batch is None else None,
            strict=False,
        )
    # torch.export lets through whatever it meets, of many kinds.
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        hint = "make it take any number of images, or give a fixed [[batch]]"
        raise UnsupportedModelError(f"torch.export refuses it: {first}", hint=hint) from error


def _largest_difference(network: nn.Module, path: Path, batches: Sequence[int]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reloaded = torch.export.load(path).module()
    shape: tuple[int, ...] = tuple(network.input_shape)  # pyright: ignore
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for batch in batches:
        x = torch.randn((batch, *shape), generator=generator)
        with torch.inference_mode():
            wanted, got = cast("Tensor", network(x)), cast("Tensor", reloaded(x))
        largest = float((wanted - got).abs().max()) / max(float(wanted.abs().max()), 1e-30)
        if not largest <= _RTOL:
            message = f"the archive's logits differ by {largest:.3g} of the largest at {batch}"
            raise ExportMismatchError(f"{message} images", hint="nothing was written; report this")
        worst = max(worst, largest)
    return worst
