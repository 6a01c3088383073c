"""Opens a model as its user describes it, and settles how an image becomes its input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nnslim.data import Data
from nnslim.data.preprocess import Preprocess
from nnslim.errors import ConfigError, InputError
from nnslim.models.formats import file_kind, model_file
from nnslim.models.load import LoadedModel, ModelOptions, load_model
from nnslim.settings.inputs import ModelSettings, PreprocessSettings
from nnslim.sink import Sink

__all__ = ["chosen_preprocess", "open_model"]

_SELF_CONTAINED = ("nnslim", "exported")


def chosen_preprocess(settings: PreprocessSettings, base: Preprocess | None) -> Preprocess | None:
    """Return ``base`` with what was said put over it, or None when nothing was said.

    Raises:
        ConfigError: There is no ``base`` and something is missing.
        InputError: Means and standard deviations of different numbers.
    """
    if settings == PreprocessSettings():
        return None
    size = settings.input_size or (base.size if base else None)
    mean = settings.mean or (base.mean if base else None)
    std = settings.std or (base.std if base else None)
    if size is None or mean is None or std is None:
        raise ConfigError(
            "the preprocessing is incomplete", hint="give [[input_size]], [[mean]] and [[std]]"
        )
    if base is None:
        return Preprocess(size, mean, std)
    return replace(_at_size(base, size), mean=mean, std=std)


def open_model(
    source: str | Path | None,
    model: ModelSettings,
    preprocess: PreprocessSettings,
    data: Data | None,
    sink: Sink,
) -> LoadedModel:
    """Open a model, settle its preprocessing, and say what was decided.

    The preprocessing is what was said, else what the file says, else the data's default.

    Raises:
        ConfigError: Settings that cannot be used.
        InputError: The model cannot be read, or does not fit the data.
    """
    source = None if source is None else model_file(Path(source))
    size = preprocess.input_size
    fixed = source is not None and file_kind(source) in _SELF_CONTAINED
    if size is None and data is not None and not fixed:
        size = data.preprocess.size
    options = ModelOptions(
        arch=model.arch,
        arch_args=model.arch_arg,
        trust_pickle=model.trust_pickle,
        input_size=size,
        num_classes=len(data.classes) if data else None,
    )
    loaded = load_model(source, options)
    for note in loaded.notes:
        sink.info(note)
    _settle_preprocess(loaded, preprocess, data, sink)
    return loaded


def _settle_preprocess(
    loaded: LoadedModel, settings: PreprocessSettings, data: Data | None, sink: Sink
) -> None:
    network, stored = loaded.network, loaded.network.preprocess
    pixels = (network.input_shape[1], network.input_shape[2])
    default = stored or (data.preprocess if data else None)
    chosen = default
    if settings.names_colours:
        chosen = chosen_preprocess(replace(settings, input_size=pixels), default)
    if chosen is None:
        sink.detail(f"{loaded.source}: how an image becomes an input is not known")
        return
    chosen = _at_size(chosen, pixels)
    if chosen.channels != network.input_shape[0]:
        raise InputError(
            f"{loaded.source}: takes images of {network.input_shape[0]} channels, "
            f"but the preprocessing has {chosen.channels}",
            hint="give one [[mean]] and [[std]] per channel, or other data",
        )
    origin = "the file" if stored else f"the default of {data.name}" if data else "as given"
    origin = "as given" if settings.names_colours else origin
    network.preprocess = chosen
    sink.info(f"{loaded.source}: {chosen.describe()} ({origin})")


def _at_size(base: Preprocess, size: tuple[int, int]) -> Preprocess:
    """Change the size, and the scaling before the crop in proportion."""
    if size == base.size:
        return base
    resize = base.resize and round(base.resize * min(size) / min(base.size))
    return replace(base, size=size, resize=resize)
