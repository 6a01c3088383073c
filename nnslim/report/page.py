"""Pages from templates: self-contained, nothing to load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import cast

import jinja2

__all__ = ["flat", "rendered"]


def rendered(template: str, **values: object) -> str:
    """Fill one of the package's templates; a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _template(name: str) -> str:
    return files("nnslim.report").joinpath("templates", name).read_text(encoding="utf-8")


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Settings as lines: nested names joined by dots."""
    result: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= flat(cast("Mapping[str, object]", value), f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return result
