"""What an exported file says of itself."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn

from nnslim.onnx.image_input import INPUT_KEY
from nnslim.version import __version__

__all__ = ["PREFIX", "network_metadata", "weights_sha256"]

PREFIX = "nnslim."


def network_metadata(
    network: nn.Module, *, precision: str = "float32", pixels: bool = False
) -> dict[str, str]:
    """Return the properties of a file: version, hash, preprocessing, classes, variant.

    Args:
        network: Where it has ``preprocess`` and ``classes``, they are in the result.
        precision: Of the arithmetic inside.
        pixels: Whether the file takes uint8 (N, H, W, C) and normalises inside.
    """
    preprocess = getattr(network, "preprocess", None)
    classes = getattr(network, "classes", None)
    values = {"version": __version__, "weights_sha256": weights_sha256(network)}
    if preprocess is not None:
        values["preprocess"] = json.dumps(preprocess.to_json(), sort_keys=True)
    if classes is not None:
        values["classes"] = json.dumps(list(classes), ensure_ascii=False)
    if precision != "float32":
        values["precision"] = precision
    result = {f"{PREFIX}{key}": value for key, value in values.items()}
    if pixels:
        form = {"layout": "NHWC", "dtype": "uint8", "normalised": "inside"}
        result[INPUT_KEY] = json.dumps(form, sort_keys=True)
    return result


def weights_sha256(network: nn.Module) -> str:
    """Hash names, types, shapes and values of all parameters and buffers, in the order of names.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 3)
        >>> weights_sha256(layer) == weights_sha256(nn.Linear(2, 3))
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
