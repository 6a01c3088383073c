"""From flags to the values that the library takes: models, data, preprocessing, devices."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnslim.data.preprocess import Preprocess
from nnslim.errors import ConfigError, DeviceError, InputError
from nnslim.settings.parse import parse_floats, parse_size

if TYPE_CHECKING:
    import torch

    from nnslim.data import Data
    from nnslim.models import LoadedModel
    from nnslim.sink import Sink

__all__ = ["ModelFlags", "PreprocessFlags", "open_data", "open_model", "training_device"]

_SELF_CONTAINED = ("nnslim", "exported")


@dataclass(frozen=True)
class PreprocessFlags:
    """What the user said about how an image becomes an input; None where nothing."""

    input_size: str | None = None
    mean: str | None = None
    std: str | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels."""
        return None if self.input_size is None else parse_size(self.input_size, "--input-size")

    @property
    def names_colours(self) -> bool:
        """Whether a mean or a standard deviation was given."""
        return self.mean is not None or self.std is not None

    def over(self, base: Preprocess | None) -> Preprocess | None:
        """Return ``base`` with what was said put over it, or None when nothing was said.

        Raises:
            ConfigError: A value cannot be read, or there is no ``base`` and something is missing.
            InputError: Means and standard deviations of different numbers.
        """
        if self == PreprocessFlags():
            return None
        mean = None if self.mean is None else parse_floats(self.mean, "--mean")
        std = None if self.std is None else parse_floats(self.std, "--std")
        size = self.size or (base.size if base else None)
        mean = mean or (base.mean if base else None)
        std = std or (base.std if base else None)
        if size is None or mean is None or std is None:
            raise ConfigError(
                "the preprocessing is incomplete", hint="give --input-size, --mean and --std"
            )
        if base is None:
            return Preprocess(size, mean, std)
        return replace(_at_size(base, size), mean=mean, std=std)


@dataclass(frozen=True)
class ModelFlags:
    """What the user said about a model."""

    arch: str | None = None
    arch_args: tuple[str, ...] = ()
    trust_pickle: bool = False
    preprocess: PreprocessFlags = PreprocessFlags()

    def without_arch(self) -> ModelFlags:
        """Return the same for a file that brings its own graph."""
        return replace(self, arch=None, arch_args=())


def open_data(
    spec: str, *, download: bool, seed: int, sink: Sink, validation: int | None = None
) -> Data:
    """Open the data set and say what was decided.

    Raises:
        InputError: There is no such data, it is damaged, or cannot be split so.
    """
    from nnslim.data import load_data

    data = load_data(spec, download=download, seed=seed, validation=validation)
    for note in data.notes:
        sink.info(f"{data.name}: {note}")
    return data


def open_model(
    source: Path | None, flags: ModelFlags, data: Data | None, sink: Sink
) -> LoadedModel:
    """Open a model, settle its preprocessing, and say what was decided.

    The preprocessing is what the flags say, else what the file says, else the data's default.

    Raises:
        ConfigError: Flags that cannot be used.
        InputError: The model cannot be read, or does not fit the data.
    """
    from nnslim.models import ModelOptions, load_model
    from nnslim.models.formats import file_kind, model_file

    source = None if source is None else model_file(source)
    size = flags.preprocess.size
    fixed = source is not None and file_kind(source) in _SELF_CONTAINED
    if size is None and data is not None and not fixed:
        size = data.preprocess.size
    options = ModelOptions(
        arch=flags.arch,
        arch_args=flags.arch_args,
        trust_pickle=flags.trust_pickle,
        input_size=size,
        num_classes=len(data.classes) if data else None,
    )
    loaded = load_model(source, options)
    for note in loaded.notes:
        sink.info(note)
    _settle_preprocess(loaded, flags.preprocess, data, sink)
    return loaded


def _settle_preprocess(
    loaded: LoadedModel, flags: PreprocessFlags, data: Data | None, sink: Sink
) -> None:
    network, own = loaded.network, loaded.network.preprocess
    pixels = (network.input_shape[1], network.input_shape[2])
    default = own or (data.preprocess if data else None)
    chosen = default
    if flags.names_colours:
        chosen = replace(flags, input_size="x".join(map(str, pixels))).over(default)
    if chosen is None:
        sink.detail(f"{loaded.source}: how an image becomes an input is not known")
        return
    chosen = _at_size(chosen, pixels)
    if chosen.channels != network.input_shape[0]:
        raise InputError(
            f"{loaded.source}: takes images of {network.input_shape[0]} channels, "
            f"but the preprocessing has {chosen.channels}",
            hint="give one --mean and --std per channel, or other data",
        )
    origin = "the file" if own else f"the default of {data.name}" if data else "flags"
    origin = "flags" if flags.names_colours else origin
    network.preprocess = chosen
    sink.info(f"{loaded.source}: {chosen.describe()} ({origin})")


def _at_size(base: Preprocess, size: tuple[int, int]) -> Preprocess:
    """Change the size, and the scaling before the crop in proportion."""
    if size == base.size:
        return base
    resize = base.resize and round(base.resize * min(size) / min(base.size))
    return replace(base, size=size, resize=resize)


def training_device(name: str, *, require_gpu: bool) -> torch.device:
    """Return the device to compute on; ``auto`` takes the first GPU, else the CPU.

    Raises:
        ConfigError: An unknown name, or a GPU required on the CPU.
        DeviceError: The GPU is not there.
    """
    import torch

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError(f"--device {name}: not known", hint="take auto, cpu, cuda or cuda:N")
    if name == "cpu":
        if require_gpu:
            raise ConfigError("--device cpu and --require-gpu contradict each other")
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if name == "auto" and not found and not require_gpu:
        return torch.device("cpu")
    index = int(name.partition(":")[2] or 0)
    if index >= found:
        asked = "--require-gpu" if name == "auto" else f"--device {name}"
        raise DeviceError(
            f"{asked}: torch {torch.__version__} sees {found} CUDA devices",
            hint="check nvidia-smi and the installed torch, or use --device cpu",
        )
    return torch.device("cuda", index)
