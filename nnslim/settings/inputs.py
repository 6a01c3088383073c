"""What the commands share: the model, the images, where to compute and where to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnslim.settings.option import option
from nnslim.settings.parse import parse_floats, parse_size, write_size
from nnslim.settings.tree import Checked

__all__ = [
    "DataSettings",
    "DeviceSettings",
    "ModelSettings",
    "PreprocessSettings",
    "SeedModelSettings",
    "TrainingDataSettings",
]


@dataclass(frozen=True)
class ModelSettings(Checked):
    """What the user says of a model."""

    PANEL: ClassVar[str] = "Model and data"

    arch: str | None = option(
        None,
        "Architecture of a state dict: torchvision:resnet18, timm:NAME, cifar_resnet20, or "
        "package.module:factory, which runs your code. Without it, it is recognised.",
        flag="arch",
        metavar="NAME",
    )
    arch_arg: tuple[str, ...] = option(
        (),
        "Argument of the architecture, such as num_classes=10; repeatable.",
        flag="arch-arg",
        metavar="K=V",
    )
    # A file or a variable must not decide to run code.
    trust_pickle: bool = option(
        False,
        "Load a pickled module. This runs code from the file: trust it first.",
        flag="trust-pickle",
        file=False,
        panel="Expert",
    )


@dataclass(frozen=True)
class SeedModelSettings(Checked):
    """What the user says of the network that is planted into."""

    arch: str | None = option(None, "Architecture of a SEED that is a state dict.", metavar="NAME")
    arch_arg: tuple[str, ...] = option(
        (), "Argument of the seed's architecture, such as width=8.", metavar="K=V"
    )


@dataclass(frozen=True)
class PreprocessSettings(Checked):
    """How an image becomes an input; None where the file or the data says."""

    PANEL: ClassVar[str] = "Model and data"
    SECTION: ClassVar[str] = "preprocess."

    input_size: tuple[int, int] | None = option(
        None,
        "Input in pixels: 224, or HEIGHTxWIDTH.",
        flag="input-size",
        metavar="N|HxW",
        read=parse_size,
        write=write_size,
        none="auto",
    )
    mean: tuple[float, ...] | None = option(
        None,
        "Mean per channel on the 0 to 1 scale.",
        flag="mean",
        metavar="X,X,X",
        read=parse_floats,
        none="auto",
    )
    std: tuple[float, ...] | None = option(
        None,
        "Standard deviation per channel on the 0 to 1 scale.",
        flag="std",
        metavar="X,X,X",
        read=parse_floats,
        none="auto",
    )

    @property
    def names_colours(self) -> bool:
        """Whether a mean or a standard deviation was given."""
        return self.mean is not None or self.std is not None


@dataclass(frozen=True)
class DataSettings(Checked):
    """Where images come from."""

    SECTION: ClassVar[str] = "data."

    source: str | None = option(
        None,
        "A folder of class folders, an .npz file, cifar10[:ROOT] or another torchvision set, "
        "digits, or package.module:factory.",
        flag="data",
        metavar="SPEC",
        panel="Model and data",
    )
    download: bool = option(False, "Allow a torchvision set to be downloaded.", flag="download")


@dataclass(frozen=True)
class TrainingDataSettings(DataSettings):
    """Where images to train on come from, and which of them are used."""

    PANEL: ClassVar[str] = "Model and data"

    subset: int | None = option(None, "Use only this many training images.", low=1, none="all")
    validation: int | None = option(
        None,
        "So many of the training and validation images validate, and all others are trained on; "
        "auto takes those that the data has, else 10 % of train and at most 5000.",
        low=0,
        none="auto",
    )
    views: int | None = option(
        None,
        "Vary every image in so many ways, over and over; new makes new variants every epoch.",
        low=1,
        none="new",
        panel="Training",
    )


@dataclass(frozen=True)
class DeviceSettings(Checked):
    """Where to train."""

    PANEL: ClassVar[str] = "Training"

    device: str = option(
        "auto", "Where to compute: auto, cpu, cuda or cuda:N.", flag="device", metavar="NAME"
    )
    require_gpu: bool = option(
        False, "Stop with exit code 3 if no GPU does the work.", flag="require-gpu", panel="Expert"
    )
    workers: int = option(0, "Processes that decode image files.", flag="workers", low=0)
