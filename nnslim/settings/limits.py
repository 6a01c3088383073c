"""The budgets in parameters, MACs and bytes, which prune and grow take alike."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from nnslim.settings.option import AUTO, Option
from nnslim.settings.parse import parse_limit

__all__ = ["budgets"]


def budgets(purpose: str, default: str, share: str) -> Any:  # noqa: ANN401 - as `field`
    """Declare a field of limits by metric, ``AUTO`` where none is said: a flag for each metric.

    Args:
        purpose: Completes "Parameters ...".
        default: What holds without any budget, in words.
        share: An example.
    """
    facts = {
        "params": (f"Parameters {purpose}: {share} or 130k.", default),
        "macs": (f"Multiply-adds {purpose}: {share} or 20M.", None),
        "size": (f"Bytes of all tensors {purpose}: {share} or 2M.", None),
    }
    entries = {
        key: Option(text, "Budget", key, metavar="LIMIT", none="no", read=parse_limit, auto=auto)
        for key, (text, auto) in facts.items()
    }
    return field(default_factory=lambda: AUTO, metadata={"entries": entries})
