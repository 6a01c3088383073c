"""Opens models: files, architectures by name, and the networks that nnslim brings itself."""

from __future__ import annotations

from nnslim.models.load import LoadedModel, ModelOptions, load_model
from nnslim.models.registry import architecture

__all__ = ["LoadedModel", "ModelOptions", "architecture", "load_model"]
