"""Find out where onnxruntime really runs a network: five ways it can leave the GPU in silence.

L0  The list of available providers says what the package was built with: never asked here.
L1  The provider did not load: the session's list of providers, after construction.
L2  Some operators run on the CPU: the session's record of which provider took which node.
L3  The provider fails in the middle and the session restarts itself on the CPU: forbidden by
    ``disable_fallback``, and L1 is asked again at the end.
L4  cuDNN is missing, so convolutions run in slow substitutes: the libraries in this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx

from nnslim.onnx.backend import Inference

__all__ = ["cudnn_library", "provider_lost", "summarise", "work_elsewhere"]

_MAPS = Path("/proc/self/maps")
_NUMBERS_OF_PIXELS = frozenset(
    (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.UINT8,
        onnx.TensorProto.INT8,
    )
)


def provider_lost(session: Inference, wanted: str) -> str | None:
    """L1: name the provider that is first in the session where it is not ``wanted``."""
    used = session.get_providers()
    first = used[0] if used else "no provider"
    return None if first == wanted else first


def work_elsewhere(session: Inference, wanted: Sequence[str], model: onnx.ModelProto) -> list[str]:
    """L2: operator types of the nodes that other providers took, apart from shape arithmetic.

    onnxruntime keeps arithmetic on shapes on the CPU by design; a node counts as such only when
    the model itself types all of its outputs as something that images never are (int64, bool).
    """
    strays = [
        node
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name not in wanted
        for node in part.get_nodes()
    ]
    if not strays:
        return []
    harmless = _shape_nodes(model)
    return [node.op_type for node in strays if node.name not in harmless]


def _shape_nodes(model: onnx.ModelProto) -> frozenset[str]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    return frozenset(
        node.name
        for node in inferred.graph.node
        if node.name
        and all(
            kinds.get(name, onnx.TensorProto.FLOAT) not in _NUMBERS_OF_PIXELS
            for name in node.output
        )
    )


def summarise(operators: Sequence[str]) -> str:
    """Count operator types for a message.

    Example:
        >>> summarise(["Conv", "Relu", "Conv"])
        '3 nodes (2 Conv, 1 Relu)'
    """
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(operators).most_common(5))
    return f"{len(operators)} node{'s' if len(operators) > 1 else ''} ({kinds})"


def cudnn_library(maps: Path = _MAPS) -> str | None:
    """L4: path of the cuDNN library in this process; None where there is none or no /proc.

    The main library is preferred to its parts (``libcudnn_ops`` and the like), and the real file,
    whose name carries the version, to a link.
    """
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[-1] for line in lines if "libcudnn" in line}
    return min((str(Path(p).resolve()) for p in paths), key=len, default=None)
