"""Opens the images as their user describes them."""

from __future__ import annotations

from dataclasses import replace

from nnslim.data.dataset import Data
from nnslim.data.sources import load_data
from nnslim.errors import ConfigError
from nnslim.settings.inputs import DataSettings, TrainingDataSettings
from nnslim.sink import Sink

__all__ = ["open_data"]


def open_data(said: DataSettings, seed: int, sink: Sink) -> Data | None:
    """Open the data set, if one was named, and say what was decided.

    Raises:
        ConfigError: Validation images without a data set.
        InputError: There is no such data, it is damaged, or cannot be split so.
    """
    training = said if isinstance(said, TrainingDataSettings) else TrainingDataSettings()
    if not said.source:
        if training.validation is not None:
            count = training.validation
            raise ConfigError(
                f"[[data.validation={count}]]: there are no images", hint="give [[data]]"
            )
        return None
    data = load_data(said.source, download=said.download, seed=seed, validation=training.validation)
    for note in data.notes:
        sink.info(f"{data.name}: {note}")
    if training.subset is not None:
        data = data.with_subset(training.subset, seed=seed)
    if training.views is not None:
        data = replace(data, augment=replace(data.augment, views=training.views))
    return data
