"""Change the channel widths of a vision network, and prove the result equal.

The names below are imported when they are first used, so that ``import nnslim`` stays cheap.

Example:
    >>> import nnslim
    >>> sorted(nnslim.__all__)[:3]
    ['Network', '__version__', 'channel_groups']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nnslim.version import __version__

if TYPE_CHECKING:
    from nnslim.api import evaluate, export, grow, prune
    from nnslim.artifact import save_network as save
    from nnslim.channels import channel_groups
    from nnslim.models.into import load
    from nnslim.network import Network
    from nnslim.network import trace_network as trace

__all__ = [
    "Network",
    "__version__",
    "channel_groups",
    "evaluate",
    "export",
    "grow",
    "load",
    "prune",
    "save",
    "trace",
]

_HOME = {
    "Network": "nnslim.network:Network",
    "channel_groups": "nnslim.channels:channel_groups",
    "evaluate": "nnslim.api:evaluate",
    "export": "nnslim.api:export",
    "grow": "nnslim.api:grow",
    "load": "nnslim.models.into:load",
    "prune": "nnslim.api:prune",
    "save": "nnslim.artifact:save_network",
    "trace": "nnslim.network:trace_network",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'nnslim' has no attribute {name!r}")
    module, attribute = _HOME[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
