"""How an image becomes a network's input: the one description that travels in every artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from nnslim.errors import InputError

__all__ = ["Preprocess"]


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop and normalise: ``(pixel / 255 - mean) / std`` per channel.

    Attributes:
        size: Height and width of the network's input, in pixels.
        mean: One value per input channel, on the 0 to 1 scale.
        std: One value per input channel, on the 0 to 1 scale.
        resize: Length of the shorter side before the centre crop to ``size``; None scales the
            whole image to ``size`` where it differs.
        interpolation: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.

    Raises:
        InputError: A size below 1, mean and std of different lengths, or a std that is not above 0.

    Example:
        >>> Preprocess(size=(32, 32), mean=(0.5,), std=(0.25,)).channels
        1
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            message = f"preprocessing has {len(self.mean)} means and {len(self.std)} stds"
            raise InputError(message, hint="give one of each per input channel")
        if min(self.size) < 1 or min(self.std) <= 0:
            raise InputError(
                f"preprocessing needs size >= 1 and std > 0, got {self.size}, {self.std}"
            )

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    def describe(self) -> str:
        """Return one line for people.

        Example:
            >>> Preprocess(size=(32, 32), mean=(0.5,), std=(0.25,)).describe()
            'images of 32 x 32 pixels, mean 0.5, std 0.25'
        """
        mean, std = (", ".join(f"{value:.4g}" for value in v) for v in (self.mean, self.std))
        return f"images of {self.size[0]} x {self.size[1]} pixels, mean {mean}, std {std}"

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; ``from_json`` reads them back to an equal object."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Preprocess:
        """Read what ``to_json`` wrote; an unknown or missing key is an ``InputError``."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"preprocessing has the unknown key {unknown[0]!r}")
        try:
            size, mean, std = values["size"], values["mean"], values["std"]
            height, width = (int(v) for v in size)  # pyright: ignore
            return cls(
                size=(height, width),
                mean=tuple(float(v) for v in mean),  # pyright: ignore
                std=tuple(float(v) for v in std),  # pyright: ignore
                resize=None if values.get("resize") is None else int(values["resize"]),  # pyright: ignore
                interpolation=str(values.get("interpolation", "bilinear")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"preprocessing is not readable: {error!r}") from error
