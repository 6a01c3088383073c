"""Networks with tokens: attention in its many spellings, norms over channels, windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.laws.blocks import Net, Registry, conv_bn

__all__ = ["ATTENTION"]

ATTENTION = Registry()


class Tokens(Net):
    """Pixels as tokens of some channels, something done to them, a mean and a classifier."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__(channels)
        self.stem, self.norm = conv_bn(3, channels), nn.LayerNorm(channels)

    def tokens(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.stem(x), 2).flatten(2).transpose(1, 2)

    def mix(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.tokens(x)
        y = y + self.mix(self.norm(y))
        return self.head(y.mean(1))


@ATTENTION.add({"stem.0": 12, "qkv": 36, "proj": 12, "proj.in": 12})
class FusedAttention(Tokens):
    """Queries, keys and values from one layer, split by reshape, permute and unbind."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(12, 36), nn.Linear(12, 12)

    def mix(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, length, -1))


@ATTENTION.add({"stem.0": 12, "q": 12, "k": 12, "v": 12})
class SeparateAttention(Tokens):
    """Layers of their own, and the product written out."""

    def __init__(self, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(12, 12) for _ in range(3))
        self.proj = nn.Linear(12, 12)

    def mix(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = (
            f(x).view(n, length, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        weights = (q * 0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


@ATTENTION.add({"stem.0": 12, "q": 12, "v": 12, "proj.in": 12})
class ManyHeads(SeparateAttention):
    """More heads than positions in each: whole heads go by default."""

    def __init__(self) -> None:
        super().__init__(heads=4)


@ATTENTION.add({"stem.0": 12, "attention.in_proj_weight": 36, "attention.out_proj": 12})
class TorchAttention(Tokens):
    """torch's own layer; with the batch in front it would take a fused path of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2)

    def mix(self, x: Tensor) -> Tensor:
        y = x.transpose(0, 1)
        return self.attention(y, y, y, need_weights=False)[0].transpose(0, 1)


@ATTENTION.add({"q": 24, "k": 12, "v": 12, "proj.in": 24})
class SharedKeys(Tokens):
    """Grouped-query attention: two heads of keys and values serve four of queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 24), nn.Linear(12, 12), nn.Linear(12, 12)
        self.proj = nn.Linear(24, 12)

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, 6)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.proj(y.transpose(1, 2).flatten(2))


@ATTENTION.add({"stem.0": 12, "qkv": 36, "proj.in": 12})
class Windows(Tokens):
    """Shifted windows, a table of relative positions and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)
        self.table = nn.Parameter(torch.randn(9, 2))
        self.register_buffer("index", torch.arange(16) % 9)

    def mix(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        y = torch.roll(x.view(n, 4, 4, 12), (-1, -1), (1, 2))
        y = y.view(n, 2, 2, 2, 2, 12).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 12)
        q, k, v = self.qkv(y).reshape(-1, 4, 3, 2, 6).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index].view(4, 4, 2).permute(2, 0, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(0))
        y = self.proj(y.transpose(1, 2).reshape(-1, 4, 12))
        y = y.view(n, 2, 2, 2, 2, 12).permute(0, 1, 3, 2, 4, 5).reshape(n, 4, 4, 12)
        return torch.roll(y, (1, 1), (1, 2)).flatten(1, 2)


@ATTENTION.add({"q": 12, "k": 12, "v": 12, "sin.in": 12})
class Rotary(Tokens):
    """Positions rotated in pairs, by strided slices and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 12) for _ in range(3))
        self.proj = nn.Linear(12, 12)
        self.register_buffer("sin", torch.randn(16, 12))
        self.register_buffer("cos", torch.randn(16, 12))

    def rotate(self, x: Tensor) -> Tensor:
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        return x * self.cos + turned * self.sin

    def mix(self, x: Tensor) -> Tensor:
        q, k = self.rotate(self.q(x)), self.rotate(self.k(x))
        return self.proj(F.scaled_dot_product_attention(q, k, self.v(x)))


@ATTENTION.add({"q": 8, "k": 8, "v": 10})
class Einsum(Tokens):
    """The same products by their letters."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(12, 10)
        self.proj = nn.Linear(10, 12)

    def mix(self, x: Tensor) -> Tensor:
        weights = torch.einsum("bid,bjd->bij", self.q(x), self.k(x)).softmax(-1)
        return self.proj(torch.einsum("bij,bjd->bid", weights, self.v(x)))


@ATTENTION.add({"q": 12, "k": 12, "v": 12})
class CrossCovariance(Tokens):
    """Attention of channels to channels, with normalised queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 12) for _ in range(3))
        self.proj = nn.Linear(12, 12)

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(1, 2)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2))


@ATTENTION.add({"up": 20, "stem.0": 12, "scale": 12})
class ClassToken(Tokens):
    """A class token, position embeddings, layer scale, and only the token is read."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.position = nn.Parameter(torch.randn(1, 17, 12))
        self.up, self.down, self.scale = (
            nn.Linear(12, 20),
            nn.Linear(20, 12),
            nn.Parameter(torch.ones(12)),
        )

    def tokens(self, x: Tensor) -> Tensor:
        y = super().tokens(x)
        return torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.position

    def mix(self, x: Tensor) -> Tensor:
        return self.scale * self.down(F.gelu(self.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.tokens(x)
        return self.head((y + self.mix(self.norm(y)))[:, 0])


@ATTENTION.add({"up": 20, "down": 16})
class Gated(Tokens):
    """SwiGLU from one layer, by chunk, and a GLU after it."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(12, 20), nn.Linear(10, 16)
        self.last = nn.Linear(8, 12)

    def mix(self, x: Tensor) -> Tensor:
        a, b = self.up(x).chunk(2, -1)
        return self.last(F.glu(self.down(F.silu(a) * b), -1))


@ATTENTION.add({"over": 10, "up": 18})
class TokenMixer(Tokens):
    """Two branches: one over tokens, one over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.over, self.back = nn.Linear(16, 10), nn.Linear(10, 16)
        self.up, self.down = nn.Linear(12, 18), nn.Linear(18, 12)

    def mix(self, x: Tensor) -> Tensor:
        y = self.back(F.gelu(self.over(x.transpose(1, 2)))).transpose(1, 2)
        return y + self.down(F.gelu(self.up(x)))


@ATTENTION.add({"up": 14, "rms": 12})
class RootMeanSquare(Tokens):
    """RMS norm, and a vector norm over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.rms, self.up, self.down = nn.RMSNorm(12), nn.Linear(12, 14), nn.Linear(14, 12)

    def mix(self, x: Tensor) -> Tensor:
        return self.down(F.normalize(self.up(self.rms(x)), dim=-1))
