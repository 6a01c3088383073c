"""Opens models: files, architectures by name, and the networks that nnslim brings itself."""

from __future__ import annotations

from nnslim.models.load import LoadedModel, ModelOptions, load_model
from nnslim.models.recognise import Recognition, recognise
from nnslim.models.registry import architecture, architecture_names, parse_arch_args

__all__ = [
    "LoadedModel",
    "ModelOptions",
    "Recognition",
    "architecture",
    "architecture_names",
    "load_model",
    "parse_arch_args",
    "recognise",
]
