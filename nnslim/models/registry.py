"""Architectures by name: ``cifar_resnet20``, ``torchvision:resnet18``, ``timm:...``, a factory."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import torch
from torch import nn

from nnslim.errors import ConfigError
from nnslim.factory import call_factory
from nnslim.models.cifar import CIFAR_DEPTHS, VGG_PLANS, CifarResNet, CifarVGG

__all__ = [
    "Architecture",
    "Argument",
    "architecture",
    "architecture_names",
    "describe",
    "parse_arch_args",
    "timm_installed",
    "timm_module",
]

Argument = int | float | bool | str
Source = Literal["built-in", "torchvision", "timm", "factory"]


@dataclass(frozen=True)
class Architecture:
    """A network that can be built by name.

    Attributes:
        name: The name that the setting ``arch`` takes.
        source: Where it comes from.
        build: Makes the module, with random weights, from keyword arguments.
        size: Height and width of the images it is made for, or None when it does not say.
        n_classes: Number of logits without ``num_classes``, or None when it does not say.
        variants: Arguments to try when an architecture is recognised from its tensors.
    """

    name: str
    source: Source
    build: Callable[..., nn.Module]
    size: tuple[int, int] | None = None
    n_classes: int | None = None
    variants: tuple[Mapping[str, Argument], ...] = field(default=({},))

    def make(self, arguments: Mapping[str, Argument]) -> nn.Module:
        """Build the module with random weights: the same ones each time.

        Raises:
            ConfigError: An argument that this architecture does not take, or a factory that fails.

        Example:
            >>> architecture("cifar_resnet20").make({"num_classes": 7}).linear.out_features
            7
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                return self.build(**arguments)
            except (TypeError, ValueError, RuntimeError) as error:
                given = ", ".join(f"{key}={value}" for key, value in arguments.items())
                message = f"{self.name} cannot be built with {given or 'no arguments'}: {error}"
                raise ConfigError(message, hint="see [[arch_arg]]") from error


def parse_arch_args(pairs: tuple[str, ...]) -> dict[str, Argument]:
    """Read ``key=value`` pairs: integers, numbers, true or false, else text.

    Raises:
        ConfigError: A pair without ``=``, a key that is no Python name, or a key given twice.

    Example:
        >>> parse_arch_args(("num_classes=10", "width=0.5", "aux_logits=false", "shortcut=B"))
        {'num_classes': 10, 'width': 0.5, 'aux_logits': False, 'shortcut': 'B'}
    """
    arguments: dict[str, Argument] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise ConfigError(
                f"[[arch_arg={pair}]]: expected key=value", hint="as in num_classes=10"
            )
        if key in arguments:
            raise ConfigError(f"[[arch_arg={key}]] is given twice", hint="give it once")
        arguments[key] = _value(value.strip())
    return arguments


def _value(text: str) -> Argument:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def architecture(name: str) -> Architecture:
    """Find an architecture by name.

    Args:
        name: ``cifar_...``, ``torchvision:...``, ``timm:...`` or ``package.module:factory``; the
            last imports that module and so runs its code.

    Raises:
        ConfigError: An unknown name (lists the nearest), timm is not installed, or the factory's
            module or function is not there.

    Example:
        >>> architecture("torchvision:inception_v3").size
        (299, 299)
    """
    prefix, colon, rest = name.partition(":")
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if prefix == "torchvision" and colon:
        if rest in _torchvision_names():
            return _torchvision(rest)
    elif prefix == "timm" and colon:
        return _timm(rest)
    elif colon:
        return Architecture(name, "factory", partial(_made, name))
    raise _unknown(name)


def _made(spec: str, /, **arguments: Argument) -> nn.Module:
    module = call_factory(spec, **arguments)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{spec} returned a {type(module).__name__}, not a torch nn.Module")
    return module


def architecture_names(source: Source) -> tuple[str, ...]:
    """Return the names of one source; a factory has none, and neither has timm when missing."""
    match source:
        case "built-in":
            return tuple(_BUILT_IN)
        case "torchvision":
            return tuple(f"torchvision:{name}" for name in _torchvision_names())
        case "timm" if timm_installed():
            return tuple(f"timm:{name}" for name in timm_module().list_models())
        case _:
            return ()


def nearest_names(name: str) -> tuple[str, ...]:
    """Return up to three names that look like ``name``, with or without its prefix.

    Example:
        >>> nearest_names("resnet_18")[0]
        'torchvision:resnet18'
    """
    wanted = name.rpartition(":")[2].lower()
    known = {*_BUILT_IN, *architecture_names("torchvision")}
    if name.startswith("timm:"):
        known |= set(architecture_names("timm"))
    short = {full: full.rpartition(":")[2].removeprefix("cifar_") for full in sorted(known)}
    close = difflib.get_close_matches(
        wanted.removeprefix("cifar_"), set(short.values()), n=3, cutoff=0.5
    )
    names = [full for match in close for full, name in short.items() if name == match]
    return tuple(names[:3])


def _unknown(name: str) -> ConfigError:
    nearest = nearest_names(name)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "see [[arch]]"
    return ConfigError(f"[[arch={name}]]: no such architecture", hint=hint)


def describe(name: str, arguments: Mapping[str, Argument]) -> str:
    """Return an architecture with its arguments, such as ``cifar_resnet20 (num_classes=7)``."""
    given = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
    return f"{name} ({given})" if given else name


def _built_in() -> Iterator[Architecture]:
    variants = ({}, {"shortcut": "B"})
    for depth in CIFAR_DEPTHS:
        name, build = f"cifar_resnet{depth}", partial(CifarResNet, depth)
        yield Architecture(name, "built-in", build, (32, 32), 10, variants)
    for depth in VGG_PLANS:
        name, build = f"cifar_vgg{depth}_bn", partial(CifarVGG, depth)
        yield Architecture(name, "built-in", build, (32, 32), 10)


_BUILT_IN = {entry.name: entry for entry in _built_in()}


def _torchvision_names() -> tuple[str, ...]:
    from torchvision import models  # noqa: PLC0415 - two seconds that the built-in nets save

    return tuple(models.list_models(module=models))


def _torchvision(name: str) -> Architecture:
    from torchvision import models  # noqa: PLC0415 - the same

    builder = models.get_model_builder(name)
    extra: dict[str, Argument] = {}
    variants: tuple[Mapping[str, Argument], ...] = ({},)
    if name in ("googlenet", "inception_v3"):
        extra = {"init_weights": True}  # leaving it out warns
        variants = ({}, {"aux_logits": False})

    def build(*, in_channels: int = 3, **kwargs: Argument) -> nn.Module:
        module = builder(weights=None, **(extra | kwargs))
        return module if in_channels == 3 else _with_stem(module, in_channels)

    side = 299 if name == "inception_v3" else 224
    return Architecture(
        f"torchvision:{name}", "torchvision", build, (side, side), 1000, variants=variants
    )


def _with_stem(module: nn.Module, in_channels: int) -> nn.Module:
    """Make the first convolution anew: torchvision's networks take three channels only."""
    conv = next(own for own in module.modules() if isinstance(own, nn.Conv2d))
    conv.in_channels = in_channels
    conv.weight = nn.Parameter(torch.empty(conv.out_channels, in_channels, *conv.kernel_size))
    conv.reset_parameters()
    return module


def timm_installed() -> bool:
    """Whether timm can be imported."""
    return find_spec("timm") is not None


def timm_module() -> ModuleType:
    """Import timm, which is optional."""
    return import_module("timm")


def _timm(name: str) -> Architecture:
    if not timm_installed():
        message = f"[[arch=timm:{name}]]: timm is not installed"
        raise ConfigError(message, hint="run: pip install timm")
    timm = timm_module()
    if not timm.is_model(name):
        raise _unknown(f"timm:{name}")

    def build(*, in_channels: int = 3, **kwargs: Argument) -> nn.Module:
        return timm.create_model(name, pretrained=False, in_chans=in_channels, **kwargs)

    config = timm.get_pretrained_cfg(name)
    size = None if config is None else tuple(config.input_size[-2:])
    return Architecture(f"timm:{name}", "timm", build, size, getattr(config, "num_classes", 1000))
