"""The quick trace: one run at one batch size that stands for all, without ``torch.export``."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nnslim.network.batch_size import NotRecordedError, WatchSizes, is_batch_size
from nnslim.network.graph import BATCH, Graph, Input, Ref, TensorInfo, TensorRef
from nnslim.network.recording import Recorder
from nnslim.network.traced import Traced, plain_structure

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from nnslim.network.graph import Arg, CustomRules

__all__ = ["QuickTraceError", "quick_trace"]


class QuickTraceError(Exception):
    """The quick trace failed in a way that was not foreseen."""


def quick_trace(
    module: nn.Module, examples: tuple[Tensor, ...], operators: CustomRules
) -> Traced | None:
    """Run a model once at the batch size ``BATCH`` and note down what it does.

    Args:
        module: In eval mode.
        examples: One tensor per input, ``(N, ...)``.
        operators: Operators of the caller's, with their rules.

    Returns:
        What ``torch.export`` with a symbolic batch would give, or None where that is not sure: the
        model's code depends on the batch size, writes to a weight, or uses a tensor that comes from
        nowhere. Then ``torch.export`` does it, or says why not.

    Raises:
        QuickTraceError: Something failed that is none of these; ``torch.export`` may still do it.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())
        >>> traced = quick_trace(model, (torch.zeros(2, 3, 1, 1),), {})
        >>> [node.op for node in traced.graph.nodes]
        ['aten.conv2d.default', 'aten.flatten.using_ints']
    """
    names = _input_names(module, len(examples))
    if names is None:
        return None
    recorder = Recorder(module, names[0], operators)
    try:
        inputs, output = _record(module, names, examples, recorder)
    except NotRecordedError:
        return None
    # torch lets through whatever the model raises; the other trace meets that again.
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        raise QuickTraceError(f"{type(error).__name__}: {text}") from error
    return _traced(module, Graph(inputs, tuple(recorder.nodes), output, operators))


def _record(
    module: nn.Module, names: list[str], examples: tuple[Tensor, ...], recorder: Recorder
) -> tuple[tuple[Input, ...], Arg]:
    """Run a module on tensors without memory, its parameters and buffers among them."""
    inputs: list[Input] = []
    images: list[Tensor] = []
    for name, example in zip(names, examples, strict=True):
        image = torch.empty(BATCH, *example.shape[1:], dtype=example.dtype, device="meta")
        recorder.give(image, Ref(name))
        inputs.append(Input(name, TensorInfo(tuple(image.shape), image.dtype)))
        images.append(image)
    stand_ins: dict[int, Tensor] = {}
    for name, tensor in _tensors(module):
        stand_ins[id(tensor)] = stand_in = torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
        )
        recorder.give(stand_in, TensorRef(name))
    with (
        torch.enable_grad(),
        torch.backends.cudnn.flags(enabled=False),  # as torch.export: operators name it
        torch._C._EnablePythonDispatcher(),  # pyright: ignore
        torch._C._EnablePreDispatch(),  # pyright: ignore
        _replaced(module, stand_ins),
        recorder,
        WatchSizes(),
    ):
        result = module(*images)
    output = plain_structure(recorder.arg(result))
    if not all(
        t.shape[:1] and is_batch_size(t.shape[0])
        for t in tree_leaves(result)
        if isinstance(t, Tensor)
    ):
        raise NotRecordedError("a batch size that stands in the code may have become a shape")
    return tuple(inputs), output


def _traced(module: nn.Module, graph: Graph) -> Traced:
    """Add the module's tensors; a tied parameter goes by its first name."""
    state = dict(_tensors(module))
    first = {id(tensor): name for name, tensor in reversed(state.items())}
    parameters = module.named_parameters(remove_duplicate=False)
    return Traced(graph, state, tuple(first[id(tensor)] for _, tensor in parameters))


def _input_names(module: nn.Module, count: int) -> list[str] | None:
    """Names of the first arguments of ``forward``; None where it does not take so many."""
    names: list[str] = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{i}" for i in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return names[:count] if len(names) >= count else None


@contextmanager
def _replaced(module: nn.Module, stand_ins: Mapping[int, Tensor]) -> Generator[None]:
    """Put other tensors in the places of a module's parameters and buffers, for a while.

    ``torch.func.functional_call`` would leave them in modules that have two names.
    """
    replaced: list[tuple[dict[str, Tensor | None], str, Tensor]] = []
    try:
        for child in module.modules():
            for table in (child._parameters, child._buffers):  # pyright: ignore
                for name, tensor in table.items():
                    if tensor is not None:
                        replaced.append((table, name, tensor))  # pyright: ignore
                        table[name] = stand_ins[id(tensor)]  # pyright: ignore
        yield
    finally:
        for table, name, tensor in replaced:
            table[name] = tensor


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers under their first names."""
    yield from module.named_parameters()
    yield from module.named_buffers()
