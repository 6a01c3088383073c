"""The closed list of operators that a network may consist of.

A stored graph is data from anywhere: it may only name operators of this list, all of which
compute on tensors and do nothing else (no files, no processes, no code).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TypeAlias, cast

import torch

from nnslim.errors import UnsupportedModelError

__all__ = [
    "BATCH_NORM_TENSORS",
    "CREATION",
    "ELEMENTWISE",
    "LAYERS",
    "OPERATORS",
    "ORDERING",
    "POOLING",
    "SIZE_ARITHMETIC",
    "STATISTICS",
    "Operator",
    "argument_names",
    "aten_names",
    "family_of",
    "is_in_place",
    "operator_name",
    "resolve",
    "resolve_custom",
    "training_argument",
]

Operator: TypeAlias = Callable[..., object]


def aten_names(text: str) -> frozenset[str]:
    """Return the full names of ATen operators, of which ``.default`` may be left out."""
    names = (name if "." in name else f"{name}.default" for name in text.split())
    return frozenset(f"aten.{name}" for name in names)


# Each entry of the result comes from the entries at the same place.
ELEMENTWISE = aten_names("""
abs abs_ add.Tensor add_.Tensor add.Scalar add_.Scalar clamp clamp_ clamp_min clamp_min_
clamp_max clamp_max_ celu celu_ cos div.Tensor div_.Tensor div.Scalar div_.Scalar
div.Tensor_mode elu elu_ erf exp floor gelu gelu_ hardshrink hardsigmoid hardsigmoid_ hardswish
hardswish_ hardtanh hardtanh_ leaky_relu leaky_relu_ lerp.Scalar lerp.Tensor log log1p
logical_not maximum minimum mish mish_ mul.Tensor mul_.Tensor mul.Scalar mul_.Scalar neg neg_
pow.Tensor_Scalar pow.Tensor_Tensor reciprocal relu relu_ relu6 relu6_ round rsqrt rsub.Scalar
rsub.Tensor selu selu_ sigmoid sigmoid_ sign silu silu_ sin softplus softshrink sqrt square
sub.Tensor sub_.Tensor sub.Scalar sub_.Scalar tanh tanh_ threshold threshold_ where.self
where.ScalarOther where.ScalarSelf masked_fill.Scalar masked_fill_.Scalar masked_fill.Tensor
log_sigmoid eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar gt.Scalar le.Scalar ge.Scalar
lt.Tensor gt.Tensor le.Tensor ge.Tensor bitwise_not logical_and logical_or logical_xor
floor_divide floor_divide.Scalar remainder.Scalar remainder.Tensor addcmul addcdiv pow.Scalar
clamp.Tensor clamp_min.Tensor clamp_max.Tensor ceil trunc frac expm1 log2 log10 tan atan sinh
cosh asinh atan2 erfc isnan isinf isfinite nan_to_num bitwise_and.Tensor bitwise_or.Tensor
xlogy.Tensor logaddexp exp2 logit where.Scalar alias clone contiguous detach detach_ dropout
dropout_ feature_dropout alpha_dropout to.dtype to.device to.dtype_layout _to_copy type_as
zeros_like ones_like full_like empty_like
""")
# Pooling, resampling and mirrored padding of pixels.
POOLING = aten_names("""
max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d upsample_nearest2d upsample_nearest2d.vec upsample_bilinear2d
upsample_bilinear2d.vec upsample_bicubic2d upsample_bicubic2d.vec _upsample_bicubic2d_aa.vec
_upsample_bilinear2d_aa.vec upsample_linear1d upsample_linear1d.vec upsample_nearest1d
upsample_nearest1d.vec upsample_nearest3d.vec upsample_trilinear3d.vec reflection_pad2d
replication_pad2d
""")
# Statistics over the dimensions that their argument ``dim`` names.
STATISTICS = aten_names("""
mean mean.dim amax amin std.correction std.dim var.correction var.dim var_mean.correction
logsumexp
""")
# Places along ``dim`` matter.
ORDERING = aten_names("""
max.dim min.dim argmax prod.dim_int cumsum any.dim topk sort argmin argsort median.dim cumprod
""")
# Tensors of literal sizes.
CREATION = aten_names("""
zeros ones full empty.memory_format new_zeros new_ones new_full arange arange.start
arange.start_step linspace eye scalar_tensor sym_size.int
""")
_LAYERS = aten_names("""
conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding convolution conv_transpose1d
conv_transpose2d.input conv_transpose3d.input linear addmm mm bmm matmul baddbmm einsum
batch_norm instance_norm layer_norm group_norm rms_norm native_layer_norm native_group_norm
scaled_dot_product_attention embedding bilinear lstm.input gru.input rnn_tanh.input
rnn_relu.input cosine_similarity cdist
""")
_OTHERS = aten_names("""
sum sum.dim_IntList norm.ScalarOpt_dim linalg_vector_norm softmax.int _softmax log_softmax.int
all max min cat stack split.Tensor split_with_sizes split.sizes chunk tensor_split.sections
unbind.int slice.Tensor select.int narrow view reshape flatten.using_ints unflatten.int squeeze
squeeze.dim squeeze.dims unsqueeze permute transpose.int t numpy_T expand repeat
repeat_interleave.self_int tile roll flip pad constant_pad_nd index_select index.Tensor gather
index_put index_put_ copy_ fill_.Scalar fill_.Tensor zero_ copy unfold as_strided movedim.int
movedim.intlist swapaxes moveaxis.int hstack vstack meshgrid meshgrid.indexing broadcast_tensors
tril triu diagonal mT scatter.src pixel_shuffle pixel_unshuffle channel_shuffle
native_channel_shuffle grid_sampler im2col col2im prelu rrelu glu bernoulli bernoulli_.float
true_divide.Tensor lift_fresh_copy view_as expand_as reshape_as new_empty rand randn rand_like
randperm one_hot
""")
_PYTHON = {
    f"python.{name}": getattr(operator, name)
    for name in ("getitem", "add", "sub", "mul", "floordiv", "mod", "neg")
}

# What may be done with sizes.
SIZE_ARITHMETIC = frozenset(_PYTHON) - {"python.getitem"}
OPERATORS: frozenset[str] = frozenset(_PYTHON).union(
    ELEMENTWISE, POOLING, STATISTICS, ORDERING, CREATION, _LAYERS, _OTHERS
)

# Name of the boolean argument that says "training", by family.
_TRAINING = {
    "batch_norm": "training",
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), "train"),
}


# Names that are treated alike; every other ATen operator is a family of its own.
_FAMILIES = {
    "convolution": "conv1d conv2d conv3d convolution",
    "transposed_convolution": "conv_transpose1d conv_transpose2d conv_transpose3d",
    "matmul": "mm bmm matmul",
    "addmm": "addmm baddbmm",
    "attention": "scaled_dot_product_attention",
    "layer_norm": "layer_norm rms_norm",
}
# Families with a weight that is summed over, and what a batch norm has one entry of per channel.
LAYERS = frozenset({"convolution", "transposed_convolution", "linear"})
BATCH_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names.split()}


def family_of(name: str) -> str:
    """Return the kind of an ATen operator of the closed list; empty for any other operator.

    Example:
        >>> family_of("aten.conv2d.padding"), family_of("aten.add_.Tensor"), family_of("my.add.out")
        ('convolution', 'add', '')
    """
    if name not in OPERATORS or name in _PYTHON:
        return ""
    base = name.split(".")[1]
    return _FAMILY_OF.get(base, base.removesuffix("_"))


def operator_name(target: object) -> str:
    """Return the name of an operator that ``torch.export`` put into a graph.

    Example:
        >>> operator_name(torch.ops.aten.relu.default)
        'aten.relu.default'
    """
    return next((name for name, known in _PYTHON.items() if target is known), str(target))


@cache
def resolve(name: str) -> Operator:
    """Return the function of an operator of the closed list.

    Raises:
        UnsupportedModelError: The name is not on the list.
    """
    if name not in OPERATORS:
        raise UnsupportedModelError(
            f"operator {name!r} is not on nnslim's list of operators",
            hint="the model cannot be represented; please report the operator",
        )
    return _PYTHON[name] if name in _PYTHON else resolve_custom(name)


def resolve_custom(name: str) -> Operator:
    """Return the function of an operator that is registered with torch, by the caller perhaps.

    Raises:
        UnsupportedModelError: No operator of this name is registered.
    """
    function: object = torch.ops
    for part in name.split(".", 2):
        try:
            function = getattr(function, part, None)
        except RuntimeError:  # what torch raises for a namespace's missing attribute
            function = None
    if function is None or function is torch.ops or name.count(".") < 2:
        raise UnsupportedModelError(
            f"operator {name!r} does not exist in torch {torch.__version__}",
            hint="import the module that registers it",
        )
    return cast("Operator", function)


@cache
def argument_names(name: str) -> Mapping[str, object]:
    """Return the operator's arguments in order, with their defaults (None where there is none).

    Example:
        >>> dict(argument_names("aten.softmax.int"))
        {'self': None, 'dim': None, 'dtype': None}
    """
    if name in _PYTHON:
        return MappingProxyType(dict.fromkeys("a" if name == "python.neg" else "ab"))
    schema = (resolve(name) if name in OPERATORS else resolve_custom(name))._schema  # pyright: ignore
    defaults = ((argument.name, argument.default_value) for argument in schema.arguments)
    return MappingProxyType({key: tuple(d) if isinstance(d, list) else d for key, d in defaults})


def is_in_place(name: str) -> bool:
    """Whether the operator writes to its first argument.

    Example:
        >>> is_in_place("aten.relu_.default"), is_in_place("aten.relu.default")
        (True, False)
    """
    return name.startswith("aten.") and name.split(".")[1].endswith("_")


def training_argument(name: str) -> str | None:
    """Return the name of the operator's "training" argument, or None."""
    return _TRAINING.get(family_of(name))
