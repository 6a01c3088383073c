"""What each operator does to channel labels; one file per family, one function per behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnslim.channels.rules import elementwise as entries
from nnslim.channels.rules import joining, layers, norms, picking, products, reductions, reshaping
from nnslim.channels.walk import Rule
from nnslim.network import operators
from nnslim.network.operators import aten_names

__all__ = ["DEFAULT_RULES"]

_NAMES: Mapping[Rule, str] = {
    entries.elementwise: "expand expand_as",
    entries.prelu: "prelu",
    layers.convolution: "conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding",
    layers.transposed_convolution: "conv_transpose1d conv_transpose2d.input conv_transpose3d.input",
    layers.linear: "linear",
    layers.embedding: "embedding",
    norms.batch_norm: "batch_norm",
    norms.layer_norm: "layer_norm rms_norm",
    norms.group_norm: "group_norm",
    norms.instance_norm: "instance_norm",
    products.matmul: "mm bmm matmul",
    products.added_product: "addmm baddbmm",
    products.einsum: "einsum",
    products.attention: "scaled_dot_product_attention",
    reductions.reduction: "sum sum.dim_IntList linalg_vector_norm norm.ScalarOpt_dim",
    reductions.softmax: "softmax.int log_softmax.int",
    joining.cat: "cat",
    joining.stack: "stack",
    joining.split: "split.Tensor split.sizes split_with_sizes chunk tensor_split.sections",
    joining.pad: "pad constant_pad_nd",
    joining.repeat: "repeat tile",
    joining.repeat_interleave: "repeat_interleave.self_int",
    joining.glu: "glu",
    picking.unbind: "unbind.int",
    picking.select: "select.int",
    picking.slice_: "slice.Tensor",
    picking.index_select: "index_select",
    picking.index: "index.Tensor",
    picking.reorder: "roll flip",
    reshaping.permute: "permute transpose.int t numpy_T movedim.int movedim.intlist moveaxis.int"
    " swapaxes",
    reshaping.reshape: "reshape view flatten.using_ints unflatten.int squeeze squeeze.dim"
    " squeeze.dims unsqueeze",
    reshaping.reshape_as: "reshape_as view_as",
    reshaping.pixel_shuffle: "pixel_shuffle col2im",
    reshaping.pixel_unshuffle: "pixel_unshuffle im2col",
    reshaping.unfold: "unfold",
}

DEFAULT_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(operators.ELEMENTWISE, entries.elementwise),
        **dict.fromkeys(operators.CREATION | operators.SIZE_ARITHMETIC, entries.created),
        **dict.fromkeys(operators.POOLING, reductions.spatial),
        **dict.fromkeys(operators.STATISTICS, reductions.mixing_reduction),
        **dict.fromkeys(operators.ORDERING, reductions.ordering),
        **{name: rule for rule, names in _NAMES.items() for name in aten_names(names)},
        "python.getitem": picking.getitem,
    }
)
