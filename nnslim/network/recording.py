"""Notes down the ATen operators that a module calls, as it runs on tensors without memory.

``torch.export`` sees the same calls through a dozen layers, which take most of its time.
What only ``torch.export`` can follow is left to it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.schema_check_mode import SchemaCheckMode
from torch.fx.graph import _Namespace  # pyright: ignore[reportPrivateUsage]
from torch.utils._python_dispatch import TorchDispatchMode

from nnslim.network.arguments import Arg, DeviceRef, Plain, Ref, TensorRef, map_arg
from nnslim.network.batch_size import NotRecordedError, WatchSizes, is_batch_size
from nnslim.network.graph import BATCH, CustomRules, Node, TensorInfo
from nnslim.network.operators import OPERATORS, is_in_place
from nnslim.network.traced import settled_arguments, source_line

__all__ = ["Recorder"]

_MOST_NODES = 20_000
# Modules whose frames stand between the model's code and its operators, and before the model's.
_WATCHING = (__name__, map_arg.__module__, WatchSizes.__module__)
_OUTERMOST = "nnslim.network.quick"


class Recorder(SchemaCheckMode):
    """While entered, every operator that a module calls becomes a node.

    It stands where ``torch.export`` stands: before autograd, where a convolution is still one
    operator. That place admits only torch's kinds of mode; of those, this base asks for least.

    Attributes:
        nodes: The calls so far.
    """

    def __init__(self, module: nn.Module, first: str, custom: CustomRules) -> None:
        """Get ready for one run of ``module``, whose first input has the name ``first``."""
        TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)  # pyright: ignore
        self.nodes: list[Node] = []
        self._first = first
        self._custom = custom
        self._sizes: dict[int, Ref] = {}
        self._paths = {id(child): path for path, child in module.named_modules()}
        self._names = _Namespace()
        self._args: dict[int, Arg] = {}
        self._given: set[int] = set()
        self._alive: list[object] = []  # or another tensor might get the same id

    def give(self, tensor: Tensor, arg: Ref | TensorRef) -> None:
        """Say what a tensor is called that is there before the run."""
        self._name(arg.name)  # no operator may take it
        self._args[id(tensor)] = arg
        self._given.add(_memory(tensor))
        self._alive.append(tensor)

    def arg(self, value: object) -> Arg:
        """Return what stands for a value in the graph.

        Raises:
            NotRecordedError: It is nothing that the run was given or has made.
        """
        return map_arg(value, self._leaf)

    def _leaf(self, value: object) -> Arg:
        if isinstance(value, Tensor):
            if id(value) not in self._args:
                raise NotRecordedError("a tensor that is neither a parameter nor a buffer")
            return self._args[id(value)]
        if isinstance(value, torch.device):
            return DeviceRef()
        if isinstance(value, int) and value != sys.maxsize and is_batch_size(value):
            return self._size(value)
        if value is None or isinstance(value, Plain):
            return value
        raise NotRecordedError(f"a {type(value).__name__}")

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        op, kwargs = str(func), kwargs or {}
        if torch._C._is_any_autocast_enabled():  # pyright: ignore
            raise NotRecordedError("autocast")
        if op not in OPERATORS and op not in self._custom:
            raise NotRecordedError(op)
        given = (self.arg(args), self.arg(kwargs))
        if is_in_place(op) and _memory(cast("Tensor", args[0])) in self._given:
            raise NotRecordedError(f"{op} writes to a weight or to the input")
        node = Node("", op, *settled_arguments(op, *given), None)
        with torch._C.DisableTorchFunction():  # pyright: ignore
            if node.family == "batch_norm" and node.argument("training") is False:
                # What torch does for a tensor without memory takes longer than all other operators.
                result: object = torch.empty_like(cast("Tensor", args[0]))
            else:
                result = func(*args, **kwargs)
        module, source = self._place()
        name = self._name(func.overloadpacket.__name__)
        self._note(result, replace(node, name=name, module=module, source=source))
        return result

    def _name(self, wish: str) -> str:
        return self._names.create_name(wish, None)

    def _size(self, size: int) -> Ref:
        """Return a size that comes from the batch as a value, computed where it is first used."""
        times = size // BATCH
        if times not in self._sizes:
            name = self._name("mul" if times > 1 else "sym_size_int")
            if times > 1:
                one = self._size(BATCH)
                self.nodes.append(Node(name, "python.mul", (one, times), {}, size, *self._place()))
            else:
                args = (Ref(self._first), 0)
                self.nodes.insert(0, Node(name, "aten.sym_size.int", args, {}, size))
            self._sizes[times] = Ref(name)
        return self._sizes[times]

    def _note(self, result: object, node: Node) -> None:
        if isinstance(result, Tensor):
            self._keep(result, node)
            return
        if not isinstance(result, (list, tuple)):
            raise NotRecordedError(f"{node.op} returns a {type(result).__name__}")
        parts = cast("list[object]", result)
        tensors = [part for part in parts if isinstance(part, Tensor)]
        if len(tensors) < len(parts):
            raise NotRecordedError(f"{node.op} returns something else than tensors")
        self.nodes.append(replace(node, value=tuple(map(_info, tensors))))
        for number, tensor in enumerate(tensors):
            name, args = self._name("getitem"), (Ref(node.name), number)
            self._keep(tensor, replace(node, name=name, op="python.getitem", args=args, kwargs={}))

    def _keep(self, tensor: Tensor, node: Node) -> None:
        if len(self.nodes) > _MOST_NODES:
            raise NotRecordedError("a loop over the batch")
        self.nodes.append(replace(node, value=_info(tensor)))
        self._args[id(tensor)] = Ref(node.name)
        self._alive.append(tensor)

    def _place(self) -> tuple[str, str]:
        """Path of the innermost module that is running, and the innermost line not of torch."""
        module, source = None, None
        frame = inspect.currentframe()
        while frame is not None and (module is None or source is None):
            code, name = frame.f_code, frame.f_globals.get("__name__")
            if name == _OUTERMOST:
                break
            if module is None and code.co_name == "_call_impl":
                module = self._paths.get(id(frame.f_locals["self"]))
            if source is None and name not in _WATCHING:
                source = source_line(code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return module or "", source or ""


def _info(tensor: Tensor) -> TensorInfo:
    for size in tensor.shape:
        is_batch_size(size)  # or stops
    return TensorInfo(tuple(tensor.shape), tensor.dtype)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore
