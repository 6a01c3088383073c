"""A model as a graph of ATen operators plus named tensors (docs/explanation/design.md)."""

from __future__ import annotations

from nnslim.network.graph import BATCH, DeviceRef, Graph, Input, Node, Ref, TensorInfo, TensorRef
from nnslim.network.network import Network
from nnslim.network.trace import trace_network

__all__ = [
    "BATCH",
    "DeviceRef",
    "Graph",
    "Input",
    "Network",
    "Node",
    "Ref",
    "TensorInfo",
    "TensorRef",
    "trace_network",
]
