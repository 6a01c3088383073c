"""Turns any ``nn.Module`` into a ``Network`` with one trace."""

from __future__ import annotations

import gc
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nnslim.errors import UnsupportedModelError
from nnslim.network.canonical import canonicalise
from nnslim.network.network import Network
from nnslim.network.program_reader import ProgramReader
from nnslim.network.quick import QuickTraceError, quick_trace

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch.export import ExportedProgram

    from nnslim.network.graph import CustomRules
    from nnslim.network.traced import Traced

__all__ = ["trace_network"]

_TRAINING_ONLY = ("DropPath", "StochasticDepth", "DropBlock")


def trace_network(
    module: nn.Module, *examples: Tensor, operators: CustomRules | None = None
) -> Network:
    """Trace a model into a graph that no longer needs the model's source code.

    The module is traced in eval mode, without autocast, and left as it was; the network's tensors
    are copies.

    Args:
        module: Any model that ``torch.export`` can follow.
        *examples: One tensor per input, ``(N, C, H, W)`` with any batch N of at least 2.
        operators: Custom operators that the model may use, such as ``mylib.swish.default``,
            each with the rule that says what it does to channels.

    Returns:
        The network in eval mode, on the module's device, with the module's parameter names.

    Raises:
        UnsupportedModelError: The model cannot be traced, fixes its batch size, or uses an
            operator that is not on the closed list; says where.

    Example:
        >>> trace_network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 1, 2, 2))
        Network(
          nodes=2, parameters=10
          (1): Module()
        )
    """
    with _eval_mode(module), _no_garbage_collection():
        traced, how = _traced(module, examples, operators or {})
        graph, constants = canonicalise(traced.graph)
        tensors = traced.tensors(graph, constants)
        notes = (*how, *_training_only_notes(module), *traced.unused_notes(tensors))
    return Network(graph, tensors, notes=notes).eval()


@contextmanager
def _eval_mode(module: nn.Module) -> Generator[None]:
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode


@contextmanager
def _no_garbage_collection() -> Generator[None]:
    """A trace makes a million objects that live: looking through them takes a tenth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _traced(
    module: nn.Module, examples: tuple[Tensor, ...], operators: CustomRules
) -> tuple[Traced, tuple[str, ...]]:
    """Trace, and note it where the quick way failed that should not have."""
    # A caller's autocast must not become part of the graph: it is a mode of running it.
    with (
        torch.autocast(examples[0].device.type, enabled=False),
        warnings.catch_warnings(),
    ):
        # Recurrent layers list their weights once more; the parameters are what is traced.
        warnings.filterwarnings("ignore", r"The tensor attributes? .*_flat_weights")
        notes: tuple[str, ...] = ()
        try:
            if (traced := quick_trace(module, examples, operators)) is not None:
                return traced, ()
        except QuickTraceError as error:
            notes = (f"traced by torch.export, which is slower: the quick trace failed, {error}",)
        return ProgramReader(_export(module, examples), operators).traced(), notes


def _export(module: nn.Module, examples: tuple[Tensor, ...]) -> ExportedProgram:
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in examples)
    try:
        return torch.export.export(
            module,
            examples,
            dynamic_shapes=(shapes,) if _variadic(module) else shapes,
            strict=False,
        )
    # torch.export lets through whatever the model or one of its layers raises.
    except Exception as error:
        text = str(error).strip().splitlines()
        first = text[0] if text else type(error).__name__
        if "specialized" in str(error) or "onstraint" in type(error).__name__ + first:
            raise UnsupportedModelError(
                f"the model fixes its batch size: {first}",
                hint="write x.shape[0] or -1 instead of a number for the batch in its forward",
            ) from error
        raise UnsupportedModelError(
            f"torch.export cannot trace the model: {type(error).__name__}: {first}",
            hint="the forward must be free of Python branches on tensor values",
        ) from error


def _variadic(module: nn.Module) -> bool:
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and code.co_argcount == 1 and bool(code.co_flags & 0x04)


def _training_only_notes(module: nn.Module) -> Iterator[str]:
    active = [
        (path, type(child).__name__)
        for path, child in module.named_modules()
        if type(child).__name__ in _TRAINING_ONLY
        and getattr(child, "p", getattr(child, "drop_prob", 0.0))
    ]
    if active:
        path, kind = active[0]
        yield f"{len(active)} {kind} modules act only in training and were left out: {path}, ..."
