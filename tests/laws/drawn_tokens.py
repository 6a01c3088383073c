"""Pieces of random networks that mix pixels as tokens, resample or normalise over groups."""

from __future__ import annotations

import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws.blocks import conv, conv_bn
from tests.laws.drawn import WIDTHS, Block

__all__ = ["TOKEN_BLOCKS"]


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _attention(draw: st.DrawFn, n: int) -> Block:
    """One to four heads, from one layer or three, in either layout."""
    heads, size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    fused, fast = draw(st.booleans()), draw(st.booleans())
    inner = heads * size
    parts = {"norm": nn.LayerNorm(n), "proj": nn.Linear(inner, n)}
    if fused:
        parts["qkv"] = nn.Linear(n, 3 * inner)
    else:
        parts |= {name: nn.Linear(n, inner) for name in "qkv"}

    def split(y: Tensor) -> Tensor:
        return y.view(y.shape[0], y.shape[1], heads, -1).transpose(1, 2)

    def forward(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        tokens = F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)
        y = parts["norm"](tokens)
        if fused:
            q, k, v = parts["qkv"](y).reshape(batch, -1, 3, heads, size).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = (split(parts[name](y)) for name in "qkv")
        if fast:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q * 0.7 @ k.transpose(-2, -1)).softmax(-1) @ v
        y = tokens + parts["proj"](y.transpose(1, 2).reshape(batch, -1, inner))
        image = y.transpose(1, 2).reshape(batch, n, height // 2, width // 2)
        return F.interpolate(image, scale_factor=2.0)

    return Block(f"attention({heads}, {size}, {fused}, {fast})", n, forward, **parts)


def _mixer(draw: st.DrawFn, n: int) -> Block:
    """Two branches: over the tokens and over the channels."""
    over, inside = draw(WIDTHS), draw(WIDTHS)
    a, b, c, d = (
        nn.Linear(64, over),
        nn.Linear(over, 64),
        nn.Linear(n, inside),
        nn.Linear(inside, n),
    )

    def forward(x: Tensor) -> Tensor:
        y = x.flatten(2)
        y = y + b(F.gelu(a(y))) + d(F.gelu(c(y.transpose(1, 2)))).transpose(1, 2)
        return y.reshape(x.shape)

    return Block(f"mixer({over}, {inside})", n, forward, a=a, b=b, c=c, d=d)


def _pixel_shuffle(draw: st.DrawFn, n: int) -> Block:
    width, back = draw(st.integers(2, 6)), draw(st.booleans())
    layer = conv_bn(n, 4 * width)

    def forward(x: Tensor) -> Tensor:
        y = F.pixel_shuffle(layer(x), 2)
        return F.pixel_unshuffle(y, 2) if back else F.avg_pool2d(y, 2)

    return Block(
        f"pixel_shuffle({width}, {back})", width * (4 if back else 1), forward, layer=layer
    )


def _transposed(draw: st.DrawFn, n: int) -> Block:
    groups = draw(st.sampled_from(_divisors(n)))
    each, bias = draw(st.integers(1, 4)), draw(st.booleans())
    layer = nn.ConvTranspose2d(n, groups * each, 3, padding=1, groups=groups, bias=bias)
    text = f"transposed({groups}, {each}, {bias})"
    return Block(text, groups * each, lambda x: F.leaky_relu(layer(x), 0.2), layer=layer)


def _group_norm(draw: st.DrawFn, n: int) -> Block:
    groups, affine = draw(st.sampled_from(_divisors(n))), draw(st.booleans())
    layer, norm = conv(n, n), nn.GroupNorm(groups, n, affine=affine)

    def forward(x: Tensor) -> Tensor:
        return x + F.leaky_relu(norm(layer(x)), 0.2)

    return Block(f"group_norm({groups}, {affine})", n, forward, layer=layer, norm=norm)


def _layer_norm(draw: st.DrawFn, n: int) -> Block:
    inside, rms = draw(WIDTHS), draw(st.booleans())
    norm = nn.RMSNorm(n) if rms else nn.LayerNorm(n)
    up, down = nn.Linear(n, 2 * inside), nn.Linear(inside, n)

    def forward(x: Tensor) -> Tensor:
        gate, value = up(norm(x.permute(0, 2, 3, 1))).chunk(2, -1)
        return x + down(F.silu(gate) * value).permute(0, 3, 1, 2)

    return Block(f"layer_norm({inside}, {rms})", n, forward, norm=norm, up=up, down=down)


TOKEN_BLOCKS = [_attention, _mixer, _pixel_shuffle, _transposed, _group_norm, _layer_norm]
