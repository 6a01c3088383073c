"""How images become the input of an ONNX file: name, type, layout and sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnslim.errors import InputError
from nnslim.settings.session import Layout

__all__ = ["INPUT_KEY", "ImageInput", "image_input"]

INPUT_KEY = "nnslim.input"

_DTYPES: dict[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
_COLOURS = (1, 3, 4)


@dataclass(frozen=True)
class ImageInput:
    """The one input of a file.

    Attributes:
        name: Its name.
        dtype: Of its values; ``uint8`` takes pixels as they are, 0 to 255.
        layout: Where the channels are.
        guessed: The layout follows from the sizes alone.
        batch: The fixed number of images per run, or None.
        shape: (C, H, W), None where the file leaves one open.
    """

    name: str
    dtype: DTypeLike
    layout: Layout
    guessed: bool
    batch: int | None
    shape: tuple[int | None, int | None, int | None]

    @property
    def takes_pixels(self) -> bool:
        """Whether the file normalises by itself."""
        return self.dtype == np.uint8

    def feed(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        """Turn images (N, C, H, W) into what the file takes."""
        if self.layout == "NHWC":
            x = x.transpose(0, 2, 3, 1)
        if self.takes_pixels and x.dtype != np.uint8:
            x = np.clip(np.rint(x), 0, 255)
        return np.ascontiguousarray(x, dtype=self.dtype)


def image_input(
    name: str,
    kind: str,
    dims: Sequence[object],
    metadata: Mapping[str, str],
    layout: Layout | None,
) -> ImageInput:
    """Read one input of a session.

    The layout is what the file's metadata say (a file of nnslim is NCHW unless it says otherwise),
    else the caller, else what the sizes tell: channels last where only the last is 1, 3 or 4.

    Args:
        name: Of the input.
        kind: Its type in onnxruntime's words, such as ``tensor(float)``.
        dims: Its sizes; what is no number is free.
        metadata: Properties of the file.
        layout: What the caller says, or None.

    Raises:
        InputError: Another type or number of dimensions than an image's.

    Example:
        >>> image_input("x", "tensor(uint8)", ["n", 224, 224, 3], {}, None).layout
        'NHWC'
    """
    if kind not in _DTYPES:
        raise InputError(f"the input {name} is a {kind}, which holds no images")
    if len(dims) != 4:
        raise InputError(f"input is {list(dims)}, images are (N, C, H, W)")
    sizes = [size if isinstance(size, int) else None for size in dims]
    stated = _stated_layout(metadata)
    last = sizes[3] in _COLOURS and sizes[1] not in _COLOURS
    chosen: Layout = stated or layout or ("NHWC" if last else "NCHW")
    order = (3, 1, 2) if chosen == "NHWC" else (1, 2, 3)
    channels, height, width = (sizes[i] for i in order)
    guessed = stated is None and layout is None and chosen == "NHWC"
    return ImageInput(name, _DTYPES[kind], chosen, guessed, sizes[0], (channels, height, width))


def _stated_layout(metadata: Mapping[str, str]) -> Layout | None:
    try:
        value = json.loads(metadata.get(INPUT_KEY, "{}"))
    except ValueError as error:
        raise InputError(f"metadata {INPUT_KEY} is not JSON") from error
    layout = value.get("layout") if isinstance(value, dict) else None
    if layout in ("NCHW", "NHWC"):
        return layout
    return "NCHW" if "nnslim.version" in metadata else None
