"""What the sweep covers: every torchvision classifier, one model of every timm module family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Built", "build", "timm_families", "torchvision_names"]

# Narrower copies of the largest four: the same code and graph, smaller weights.
_NARROWER: dict[str, dict[str, int]] = {
    "vit_l_16": {"num_layers": 8, "num_heads": 8, "hidden_dim": 512, "mlp_dim": 2048},
    "vit_l_32": {"num_layers": 8, "num_heads": 8, "hidden_dim": 512, "mlp_dim": 2048},
    "vit_h_14": {"num_layers": 8, "num_heads": 8, "hidden_dim": 640, "mlp_dim": 2560},
}
_PATCH = {"vit_b_16": 16, "vit_b_32": 32, "vit_l_16": 16, "vit_l_32": 32, "vit_h_14": 14}


@dataclass(frozen=True)
class Built:
    """A model ready for its sweep.

    Attributes:
        module: With random weights.
        size: Of its images, ``(C, H, W)``.
        note: What is not as the name says, such as a narrower copy.
    """

    module: nn.Module
    size: tuple[int, int, int]
    note: str = ""


def torchvision_names() -> list[str]:
    """Every classification model of torchvision."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def timm_families() -> dict[str, str]:
    """The smallest model of every module of timm."""
    import timm

    result: dict[str, str] = {}
    for module in timm.list_modules():
        found: dict[str, int] = {}
        for name in timm.list_models(module=module):
            try:
                with torch.device("meta"):
                    found[name] = sum(p.numel() for p in timm.create_model(name).parameters())
            except (RuntimeError, NotImplementedError, ValueError, ImportError):
                continue  # a model that cannot be built without data or another package
        if found:
            result[module] = min(found, key=lambda name: found[name])
    return result


def build(source: str, name: str) -> Built:
    """Build a model of ``torchvision`` or ``timm``, the same one each time."""
    torch.manual_seed(0)
    makers: dict[str, Callable[[str], Built]] = {"torchvision": _torchvision, "timm": _timm}
    return makers[source](name)


def _torchvision(name: str) -> Built:
    from torchvision import models
    from torchvision.models.regnet import BlockParams, RegNet
    from torchvision.models.vision_transformer import VisionTransformer

    if name in _PATCH:
        patch = _PATCH[name]
        size, options = 4 * patch, _NARROWER.get(name)
        if options:
            module: nn.Module = VisionTransformer(image_size=size, patch_size=patch, **options)
            return Built(module, (3, size, size), "narrower")
        return Built(models.get_model(name, weights=None, image_size=size), (3, size, size))
    if name == "regnet_y_128gf":
        parameters = BlockParams.from_init_params(
            depth=27, w_0=112, w_a=40.2, w_m=2.52, group_width=64, se_ratio=0.25
        )
        return Built(RegNet(parameters), (3, 64, 64), "narrower")
    plain = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = 224 if name.startswith("maxvit") else 96 if name.startswith("inception") else 64
    return Built(models.get_model(name, weights=None, **plain), (3, size, size))


def _timm(name: str) -> Built:
    import timm

    channels, height, width = timm.create_model(name).default_cfg["input_size"]
    if height <= 256:
        return Built(timm.create_model(name), (channels, height, width))
    for size in (256, 224):
        try:
            module = timm.create_model(name, img_size=size)
            module.eval()(torch.zeros(1, channels, size, size))
        except (TypeError, ValueError, RuntimeError, AssertionError):
            continue
        return Built(module, (channels, size, size), f"{size} px")
    return Built(timm.create_model(name), (channels, 256, 256), "256 px")
