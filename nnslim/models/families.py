"""Which architectures to compare a set of tensors with, and which to name when none fits."""

from __future__ import annotations

from collections.abc import Iterator

from nnslim.models.registry import Source, architecture_names, timm_installed, timm_module
from nnslim.models.skeleton import Signature

__all__ = ["REPRESENTATIVES", "candidates", "family"]

# One small torchvision network of each family.
REPRESENTATIVES = tuple(
    f"torchvision:{name}"
    for name in (
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet"),
        *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"),
        *("regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t"),
        *("vgg11", "vit_b_32"),
    )
)


def candidates(source: Source, shapes: Signature) -> tuple[str, ...]:
    """Return the names of the architectures of one source that ``shapes`` could be.

    Args:
        source: ``"built-in"``, ``"torchvision"`` or ``"timm"``.
        shapes: Shapes of the tensors in a file, by name.

    Example:
        >>> candidates("built-in", {})[:2]
        ('cifar_resnet8', 'cifar_resnet14')
    """
    if source == "timm":
        return tuple(_timm(shapes)) if timm_installed() else ()
    return architecture_names(source)


def family(name: str) -> tuple[str, ...]:
    """Return all torchvision networks that are defined in the same file as this one.

    Example:
        >>> family("torchvision:squeezenet1_1")
        ('torchvision:squeezenet1_0', 'torchvision:squeezenet1_1')
    """
    from torchvision import models  # noqa: PLC0415 - slow, and built-in networks come first

    def module(full: str) -> str:
        return models.get_model_builder(full.partition(":")[2]).__module__

    return tuple(n for n in architecture_names("torchvision") if module(n) == module(name))


def _timm(shapes: Signature) -> Iterator[str]:
    """The networks whose first convolution and classifier carry names that are there."""
    timm = timm_module()
    for name in architecture_names("timm"):
        config = timm.get_pretrained_cfg(name.partition(":")[2])
        needed = () if config is None else (config.first_conv, config.classifier)
        if all(f"{_first(layer)}.weight" in shapes for layer in needed if layer):
            yield name


def _first(layer: str | tuple[str, ...] | list[str]) -> str:
    return layer if isinstance(layer, str) else layer[0]
