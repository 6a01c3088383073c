"""Finds out which architecture a state dict belongs to, from its tensors' names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nnslim.errors import InputError
from nnslim.models.families import REPRESENTATIVES, candidates, family
from nnslim.models.matching import Match, match_signatures
from nnslim.models.registry import Architecture, Argument, Source, architecture, describe
from nnslim.models.skeleton import Signature, signature

__all__ = ["Recognition", "best_fit", "recognise"]

_IMAGE_CHANNELS = 3  # what every architecture takes without ``in_channels``
_NEAREST = 3


@dataclass(frozen=True)
class Recognition:
    """An architecture, the arguments that were read off the shapes, and how well they fit.

    Attributes:
        name: Of the architecture.
        arguments: Of the architecture, to make it fit.
        match: What differs; nothing for a recognised architecture.
    """

    name: str
    arguments: Mapping[str, Argument]
    match: Match

    def __str__(self) -> str:
        return describe(self.name, self.arguments)


def recognise(shapes: Signature, names: Sequence[str] | None = None) -> Recognition:
    """Find the one architecture that has exactly these tensors.

    The built-in networks are tried first, then torchvision's, then timm's where it is installed:
    many of timm's have the tensors of torchvision's. The number of classes, the image channels
    and the kind of shortcut are read off the shapes.

    Args:
        shapes: Shapes of the tensors by name, as ``signature_of`` returns them.
        names: Architectures to choose from instead.

    Raises:
        InputError: Several architectures of one source fit equally well, or none fits; lists them
            or the nearest.

    Example:
        >>> from nnslim.models.cifar import CifarResNet
        >>> shapes = signature(lambda: CifarResNet(20, num_classes=100, shortcut="B"))
        >>> print(recognise(shapes))
        cifar_resnet20 (num_classes=100, shortcut=B)
    """
    sources: tuple[Source, ...] = ("built-in", "torchvision", "timm")
    for group in (candidates(own, shapes) for own in sources) if names is None else (names,):
        fits = [f for name in group for f in _fits(architecture(name), {}, shapes, quick=True)]
        exact = [fit for fit in fits if fit.match.exact]
        if len(exact) == 1:
            return exact[0]
        if exact:
            several = ", ".join(str(fit) for fit in exact)
            message = f"these tensors fit {len(exact)} architectures equally well: {several}"
            raise InputError(message, hint="say which one with [[arch]] and [[arch_arg]]")
    raise _unknown(shapes, names)


def best_fit(
    entry: Architecture, arguments: Mapping[str, Argument], shapes: Signature
) -> Recognition | None:
    """Fit one named architecture: read the arguments that were not given off the shapes.

    Args:
        entry: The architecture that the user named.
        arguments: The arguments that the user gave; they are kept.
        shapes: Shapes of the tensors by name.

    Returns:
        The best fit, which need not be exact, or None when only a real build can tell.
    """
    fits = _fits(entry, arguments, shapes)
    return max(fits, key=lambda fit: (fit.match.exact, fit.match.overlap), default=None)


def _fits(
    entry: Architecture, given: Mapping[str, Argument], shapes: Signature, *, quick: bool = False
) -> list[Recognition]:
    possible = _possible(entry, shapes) if quick and entry.source != "factory" else None
    fits: list[Recognition] = []
    for variant in entry.variants:
        arguments = {**variant, **given}
        wanted = signature(lambda args=arguments: entry.build(**args), possible)
        if wanted is None:
            continue
        match = match_signatures(shapes, wanted)
        inferred = {} if match.exact else _inferred(entry, shapes, wanted)
        extra = {key: value for key, value in inferred.items() if key not in given}
        if match.same_names and extra:
            arguments |= extra
            wanted = signature(lambda args=arguments: entry.build(**args)) or wanted
            match = match_signatures(shapes, wanted)
        fit = Recognition(entry.name, arguments, match)
        if fit not in fits:  # a variant that the given arguments override comes twice
            fits.append(fit)
    return fits


def _possible(entry: Architecture, shapes: Signature) -> Callable[[tuple[int, ...]], bool]:
    """Whether a weight of this shape can be in ``shapes``, the arguments being unknown yet.

    Only full kernels larger than 1 x 1 are judged: constructors make others for passing use.
    """
    kernels = frozenset(shape for shape in shapes.values() if len(shape) == 4)
    stems = frozenset((out, *sizes) for out, _, *sizes in kernels)

    def possible(shape: tuple[int, ...]) -> bool:
        if len(shape) != 4 or 1 in shape[:2] or shape[2:] == (1, 1) or shape[0] == entry.n_classes:
            return True
        return shape in kernels or (shape[1] == _IMAGE_CHANNELS and (shape[0], *shape[2:]) in stems)

    return possible


def _inferred(entry: Architecture, shapes: Signature, wanted: Signature) -> dict[str, Argument]:
    """Number of classes from the last layer, image channels from the first convolution."""
    arguments: dict[str, Argument] = {}
    heads = [
        name for name, shape in wanted.items() if len(shape) > 1 and shape[0] == entry.n_classes
    ]
    stems = [name for name, s in wanted.items() if len(s) == 4 and s[1] == _IMAGE_CHANNELS]
    for key, name, dim in (
        *(("num_classes", head, 0) for head in heads[-1:]),
        *(("in_channels", stem, 1) for stem in stems[:1]),
    ):
        size = shapes.get(name, ())
        if len(size) == len(wanted[name]) and size[dim] != wanted[name][dim]:
            arguments[key] = size[dim]
    return arguments


def _unknown(shapes: Signature, names: Sequence[str] | None) -> InputError:
    nearest = _nearest(shapes, names or (*candidates("built-in", shapes), *REPRESENTATIVES))
    if names is None and nearest and nearest[0].name in REPRESENTATIVES:
        nearest = _nearest(shapes, family(nearest[0].name))
    message = f"no known architecture has these {len(shapes)} tensors"
    if nearest:
        listed = ", ".join(f"{fit} ({int(100 * fit.match.overlap)}% alike)" for fit in nearest)
        message += f"; nearest: {listed}, and the first has {nearest[0].match.describe()}"
    return InputError(message, hint="name the network, or package.module:factory, with [[arch]]")


def _nearest(shapes: Signature, names: Sequence[str]) -> list[Recognition]:
    fits = (best_fit(architecture(name), {}, shapes) for name in names)
    ranked = sorted((fit for fit in fits if fit), key=lambda fit: -fit.match.overlap)
    return [fit for fit in ranked if fit.match.overlap > 0][:_NEAREST]
