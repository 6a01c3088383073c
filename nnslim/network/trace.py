"""Turns any ``nn.Module`` into a ``Network`` with one ``torch.export`` trace."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, fx, nn

from nnslim.errors import UnsupportedModelError
from nnslim.network.canonical import canonicalise
from nnslim.network.graph import (
    BATCH,
    Arg,
    CustomRules,
    DeviceRef,
    Graph,
    Input,
    Node,
    Ref,
    TensorInfo,
    TensorRef,
    Value,
)
from nnslim.network.inline import inline_regions
from nnslim.network.network import Network
from nnslim.network.operators import OPERATORS, argument_names, operator_name, training_argument

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch.export import ExportedProgram

__all__ = ["trace_network"]

_TRAINING_ONLY = ("DropPath", "StochasticDepth", "DropBlock")
_IGNORED = ("_assert", "sym_constrain", "lift_fresh_copy_guard")


def trace_network(
    module: nn.Module, *examples: Tensor, operators: CustomRules | None = None
) -> Network:
    """Trace a model into a graph that no longer needs the model's source code.

    The module is traced in eval mode, without autocast, and left as it was; the network's tensors
    are copies.

    Args:
        module: Any model that ``torch.export`` can follow.
        *examples: One tensor per input, ``(N, C, H, W)`` with any batch N of at least 2.
        operators: Operators of your own that the model may use, such as ``mylib.swish.default``,
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
    with _eval_mode(module):
        program = _export(module, examples)
        reader = _Reader(program, operators or {})
        graph, constants = canonicalise(reader.graph())
        tensors = reader.tensors(graph, constants)
        notes = (*_training_only_notes(module), *reader.unused_notes(tensors))
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


def _export(module: nn.Module, examples: tuple[Tensor, ...]) -> ExportedProgram:
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in examples)
    try:
        # A caller's autocast must not become part of the graph: it is a mode of running it.
        with (
            torch.autocast(examples[0].device.type, enabled=False),
            warnings.catch_warnings(),
        ):
            # Recurrent layers list their weights once more; the parameters are what is traced.
            warnings.filterwarnings("ignore", r"The tensor attributes? .*_flat_weights")
            return torch.export.export(
                module,
                examples,
                dynamic_shapes=(shapes,) if _variadic(module) else shapes,
                strict=False,
            )
    # torch.export lets through whatever the model or one of its own layers raises.
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


class _Reader:
    """Reads an exported program into our own graph."""

    def __init__(self, program: ExportedProgram, custom: CustomRules) -> None:
        self.program = program
        self.custom = custom
        self.signature = program.graph_signature
        self.targets: dict[str, str] = {
            **self.signature.inputs_to_parameters,
            **self.signature.inputs_to_buffers,
        }
        self.constants = dict(self.signature.inputs_to_lifted_tensor_constants)
        self.primary = self._primary_names()

    def _state(self) -> Mapping[str, Tensor]:
        return {**self.program.state_dict, **cast("Mapping[str, Tensor]", self.program.constants)}

    def _primary_names(self) -> dict[str, str]:
        """Tied tensors appear under one name only: the first."""
        first: dict[int, str] = {}
        state = self._state()
        return {
            name: first.setdefault(id(state[name]), name)
            for name in self.targets.values()
            if name in state
        }

    def graph(self) -> Graph:
        inline_regions(self.program.graph_module)
        users = set(self.signature.user_inputs)
        inputs: list[Input] = []
        nodes: list[Node] = []
        output: Arg = None
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in users:
                inputs.append(Input(str(node.name), cast("TensorInfo", self._value(node))))
            elif node.op == "call_function" and not self._ignored(node):
                nodes.append(self._node(node))
            elif node.op == "output":
                output = self._output(node)
        return Graph(tuple(inputs), tuple(nodes), output, self.custom)

    def _ignored(self, node: fx.Node) -> bool:
        return not node.users and any(part in str(node.target) for part in _IGNORED)

    def _node(self, node: fx.Node) -> Node:
        op = operator_name(node.target)
        module, source = _place(node)
        if op not in OPERATORS and op not in self.custom:
            where = ", ".join(part for part in (module, source) if part)
            raise UnsupportedModelError(
                f"the model uses the operator {op} ({where}), which nnslim does not know",
                hint="replace it in the model's forward, or allow it with operators={...}",
            )
        args = tuple(self._arg(arg) for arg in node.args)
        kwargs = {key: self._arg(arg) for key, arg in node.kwargs.items()}
        if training_argument(op) is not None:
            args, kwargs = _positional(op, args, kwargs)
        if (
            op == "aten.batch_norm.default"
            and args[3] is not None
            and args[5] is False
            and not args[6]
        ):
            # momentum=None means "cumulative average", which an eval trace shows as 0.
            args = (*args[:6], 0.1, *args[7:])
        return Node(node.name, op, args, kwargs, self._value(node), module, source)

    def _arg(self, arg: object) -> Arg:
        if isinstance(arg, fx.Node):
            if arg.name in self.targets:
                name = self.targets[arg.name]
                return TensorRef(self.primary.get(name, name))
            if arg.name in self.constants:
                return TensorRef(self.constants[arg.name])
            return Ref(arg.name)
        if isinstance(arg, (list, tuple)):
            return tuple(self._arg(entry) for entry in cast("list[object]", arg))
        if isinstance(arg, torch.device):
            return DeviceRef()
        if arg is None or isinstance(
            arg, (bool, int, float, str, torch.dtype, torch.layout, torch.memory_format)
        ):
            return arg
        message = f"the model passes a {type(arg).__name__} to an operator, which cannot be stored"
        raise UnsupportedModelError(message)

    def _value(self, node: fx.Node) -> Value:
        return _value_info(node.meta.get("val"), node.name)

    def _output(self, node: fx.Node) -> Arg:
        flat = [self._arg(arg) for arg in cast("tuple[object, ...]", node.args[0])]
        spec = self.program.call_spec.out_spec
        structure = torch.utils._pytree.tree_unflatten(flat, spec)  # pyright: ignore
        return _plain_structure(structure)

    def tensors(self, graph: Graph, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of the tensors that the graph uses, in the order of their first use."""
        state = self._state()
        result: dict[str, Tensor] = {}
        for name in graph.tensor_names():
            if name in constants:
                result[name] = constants[name]
                continue
            tensor = state[name]
            copy = tensor.detach().clone()
            trains = isinstance(tensor, nn.Parameter)
            result[name] = nn.Parameter(copy, tensor.requires_grad) if trains else copy
        return result

    def unused_notes(self, tensors: Mapping[str, Tensor]) -> Iterator[str]:
        """Name the parameters that evaluation does not use, auxiliary heads mostly."""
        names = [self.primary.get(name, name) for name in self.signature.parameters]
        unused = [name for name in names if name not in tensors]
        if unused:
            shown = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
            yield f"{len(unused)} parameters are not used in evaluation and were left out: {shown}"


def _positional(
    op: str, args: tuple[Arg, ...], kwargs: dict[str, Arg]
) -> tuple[tuple[Arg, ...], dict[str, Arg]]:
    names = argument_names(op)
    given = dict(zip(names, args, strict=False)) | kwargs
    return tuple(given.get(name, cast("Arg", default)) for name, default in names.items()), {}


def _concrete(size: object) -> int:
    """An integer for a size, with every symbol set to the batch."""
    if isinstance(size, int):
        return size
    expression = size.node.expr  # pyright: ignore
    return int(expression.subs(dict.fromkeys(expression.free_symbols, BATCH)))


def _value_info(value: object, name: str) -> Value:
    if isinstance(value, Tensor):
        return TensorInfo(tuple(_concrete(size) for size in value.shape), value.dtype)
    if isinstance(value, (list, tuple)):
        infos = tuple(_value_info(item, name) for item in cast("list[object]", value))
        return cast("tuple[TensorInfo, ...]", infos)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (torch.SymInt, torch.SymFloat)):
        return _concrete(value)
    raise UnsupportedModelError(
        f"the value {name} is a {type(value).__name__}, which cannot be stored"
    )


def _plain_structure(value: object) -> Arg:
    if isinstance(value, Mapping):
        return {
            str(key): _plain_structure(item)
            for key, item in cast("Mapping[object, object]", value).items()
        }
    if isinstance(value, (list, tuple)):
        return tuple(_plain_structure(item) for item in cast("list[object]", value))
    if value is None or isinstance(value, (Ref, TensorRef, bool, int, float)):
        return value
    raise UnsupportedModelError(
        f"the model returns a {type(value).__name__}",
        hint="return tensors, tuples or dicts of tensors",
    )


def _place(node: fx.Node) -> tuple[str, str]:
    """Module path and the innermost source line that is not inside torch itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    # Sizes of the input are read outside of any module, under a name of torch's own.
    module = next((path for path in reversed(paths) if "stack_from_metadata" not in path), "")
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    for path, line in reversed(frames):
        parts = PurePath(path).parts
        if "torch" not in parts:
            return module, f"{'/'.join(parts[-2:])}:{line}"
    return module, ""


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
