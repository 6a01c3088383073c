"""What a trace gives, whichever way it was made: a graph, and where its tensors are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from nnslim.errors import UnsupportedModelError
from nnslim.network.graph import Arg, Graph, Ref, TensorRef, map_arg
from nnslim.network.network import same_kind
from nnslim.network.operators import argument_names, family_of, training_argument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["Traced", "plain_structure", "settled_arguments", "source_line"]


@dataclass(frozen=True)
class Traced:
    """A graph as it was traced.

    Attributes:
        graph: The operators, before any rewrite.
        state: The source module's tensors, by name.
        parameters: Names of the parameters, a tied one under its first name.
    """

    graph: Graph
    state: Mapping[str, Tensor]
    parameters: tuple[str, ...]

    def tensors(self, graph: Graph, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of the tensors that a rewritten graph uses, in the order of their first use."""
        return {
            name: constants[name]
            if name in constants
            else same_kind(source := self.state[name], source.detach().clone())
            for name in graph.tensor_names()
        }

    def unused_notes(self, tensors: Mapping[str, Tensor]) -> Iterator[str]:
        """Name the parameters that evaluation does not use, auxiliary heads mostly."""
        unused = [name for name in self.parameters if name not in tensors]
        if unused:
            shown = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
            yield f"{len(unused)} parameters are not used in evaluation and were left out: {shown}"


def settled_arguments(
    op: str, positional: Arg, named: Arg
) -> tuple[tuple[Arg, ...], dict[str, Arg]]:
    """Write the arguments of an operator that knows of training in their one form."""
    args, kwargs = cast("tuple[Arg, ...]", positional), cast("dict[str, Arg]", named)
    if training_argument(op) is None:
        return args, kwargs
    names = argument_names(op)
    given = cast("dict[str, Arg]", {**names, **dict(zip(names, args, strict=False)), **kwargs})
    evaluated = family_of(op) == "batch_norm" and given["training"] is False
    if evaluated and given["running_mean"] is not None and not given["momentum"]:
        # momentum=None means "cumulative average", which an eval trace shows as 0.
        given["momentum"] = 0.1
    return tuple(given.values()), {}


def plain_structure(value: object) -> Arg:
    """Return what a model returns as plain data.

    Raises:
        UnsupportedModelError: It is something else than tensors, numbers, tuples and mappings.
    """

    def leaf(value: object) -> Arg:
        if value is None or isinstance(value, (Ref, TensorRef, bool, int, float)):
            return value
        raise UnsupportedModelError(
            f"the model returns a {type(value).__name__}",
            hint="return tensors, tuples or dicts of tensors",
        )

    return map_arg(value, leaf)


def source_line(path: str, line: int | str) -> str | None:
    """Name a line of source code by file and folder; None where it is inside torch.

    Example:
        >>> source_line("/site-packages/torchvision/models/vgg.py", 66)
        'models/vgg.py:66'
    """
    parts = PurePath(path).parts
    return None if "torch" in parts else f"{'/'.join(parts[-2:])}:{line}"
