"""From a program that ``torch.export`` wrote to a graph and the tensors it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, fx

from nnslim.errors import UnsupportedModelError
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
from nnslim.network.operators import OPERATORS, operator_name
from nnslim.network.traced import Traced, plain_structure, settled_arguments, source_line

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["ProgramReader"]

_IGNORED = ("_assert", "sym_constrain", "lift_fresh_copy_guard")


class ProgramReader:
    """Reads an exported program into a graph.

    Args:
        program: What ``torch.export`` gave for a module in eval mode.
        custom: Operators beside those of the closed list, with their rules.
    """

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

    def traced(self) -> Traced:
        """Return the graph as it was exported.

        Raises:
            UnsupportedModelError: An operator or value that cannot be stored; says where.
        """
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
        graph = Graph(tuple(inputs), tuple(nodes), output, self.custom)
        names = (self.primary.get(name, name) for name in self.signature.parameters)
        return Traced(graph, self._state(), tuple(names))

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
        args, kwargs = settled_arguments(op, args, kwargs)
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
        return plain_structure(structure)


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


def _place(node: fx.Node) -> tuple[str, str]:
    """Module path and the innermost source line that is not inside torch itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    # Sizes of the input are read outside of any module, under a name that torch gives.
    module = next((path for path in reversed(paths) if "stack_from_metadata" not in path), "")
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    for path, line in reversed(frames):
        if source := source_line(path, line):
            return module, source
    return module, ""
