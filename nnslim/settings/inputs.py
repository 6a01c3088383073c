"""What the commands share: the model, the images, where to compute and where to write."""

from __future__ import annotations

from dataclasses import dataclass

from nnslim.settings.option import flag, option
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
class ModelSettings(Checked, panel="Model and data"):
    """What the user says of a model."""

    arch: str | None = flag(
        None,
        "Architecture of a state dict: torchvision:resnet18, timm:NAME, cifar_resnet20, or "
        "package.module:factory, which runs your code. Without it, it is recognised.",
        metavar="NAME",
    )
    arch_arg: tuple[str, ...] = flag(
        (), "Argument of the architecture, such as num_classes=10; repeatable.", metavar="K=V"
    )
    # A file or a variable must not decide to run code.
    trust_pickle: bool = flag(
        False,
        "Load a pickled module. This runs code from the file: trust it first.",
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
class PreprocessSettings(Checked, panel="Model and data", section="preprocess."):
    """How an image becomes an input; None where the file or the data says."""

    input_size: tuple[int, int] | None = flag(
        None, "Input in pixels: 224, or HEIGHTxWIDTH.", none="auto"
    )
    mean: tuple[float, ...] | None = flag(
        None, "Mean per channel on the 0 to 1 scale.", none="auto"
    )
    std: tuple[float, ...] | None = flag(
        None, "Standard deviation per channel on the 0 to 1 scale.", none="auto"
    )

    @property
    def names_colours(self) -> bool:
        """Whether a mean or a standard deviation was given."""
        return self.mean is not None or self.std is not None


@dataclass(frozen=True)
class DataSettings(Checked, section="data."):
    """Where images come from."""

    source: str | None = flag(
        None,
        "A folder of class folders, an .npz file, cifar10[:ROOT] or another torchvision set, "
        "digits, or package.module:factory.",
        "data",
        metavar="SPEC",
        panel="Model and data",
    )
    download: bool = flag(False, "Allow a torchvision set to be downloaded.")


@dataclass(frozen=True)
class TrainingDataSettings(DataSettings, panel="Model and data"):
    """Where images to train on come from, and which of them are used."""

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
class DeviceSettings(Checked, panel="Training"):
    """Where to train."""

    device: str = flag("auto", "Where to compute: auto, cpu, cuda or cuda:N.", metavar="NAME")
    require_gpu: bool = flag(
        False, "Stop with exit code 3 if no GPU does the work.", panel="Expert"
    )
    workers: int = flag(0, "Processes that decode image files.", low=0)
