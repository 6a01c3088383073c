"""Random small convolutional networks for hypothesis: blocks in any order, of any width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws.blocks import conv, conv_bn, shuffle
from tests.laws.drawn import WIDTHS, Block
from tests.laws.drawn_tokens import TOKEN_BLOCKS
from tests.laws.made import move_statistics

__all__ = ["BLOCKS", "RandomNet", "networks"]


def _plain(draw: st.DrawFn, n: int) -> Block:
    width, kernel = draw(WIDTHS), draw(st.sampled_from([1, 3]))
    bare = draw(st.booleans())
    layer = conv(n, width, kernel) if bare else conv_bn(n, width, kernel)
    return Block(f"plain({width}, {kernel}, {bare})", width, layer, layer=layer)


def _residual(draw: st.DrawFn, n: int) -> Block:
    middle, order = draw(WIDTHS), draw(st.booleans())
    a, b = conv_bn(n, middle), nn.Sequential(conv(middle, n, 1), nn.BatchNorm2d(n))

    def forward(x: Tensor) -> Tensor:
        return F.leaky_relu(x + b(a(x)) if order else b(a(x)) + x, 0.2)

    return Block(f"residual({middle}, {order})", n, forward, a=a, b=b)


def _dense(draw: st.DrawFn, n: int) -> Block:
    growth, order = draw(WIDTHS), draw(st.booleans())
    a = conv_bn(n, growth)

    def forward(x: Tensor) -> Tensor:
        return torch.cat([x, a(x)] if order else [a(x), x], 1)

    return Block(f"dense({growth}, {order})", n + growth, forward, a=a)


def _depthwise(draw: st.DrawFn, n: int) -> Block:
    times = draw(st.sampled_from([1, 2]))
    layer = conv_bn(n, n * times, groups=n)
    return Block(f"depthwise({times})", n * times, layer, layer=layer)


def _grouped(draw: st.DrawFn, n: int) -> Block:
    groups = draw(st.sampled_from([g for g in range(1, n + 1) if n % g == 0]))
    each = draw(st.integers(1, 3))
    layer = conv_bn(n, groups * each, groups=groups)
    return Block(f"grouped({groups}, {each})", groups * each, layer, layer=layer)


def _squeeze_excite(draw: st.DrawFn, n: int) -> Block:
    middle, order = draw(WIDTHS), draw(st.booleans())
    down, up = conv(n, middle, 1), conv(middle, n, 1)

    def forward(x: Tensor) -> Tensor:
        gate = torch.sigmoid(up(F.leaky_relu(down(F.adaptive_avg_pool2d(x, 1)))))
        return x * gate if order else gate * x

    return Block(f"squeeze_excite({middle}, {order})", n, forward, down=down, up=up)


def _halves(draw: st.DrawFn, n: int) -> Block:
    """Two convolutions on an uneven split, added in either order, or the halves swapped."""
    at, width = draw(st.integers(1, n - 1)), draw(WIDTHS)
    how = draw(st.sampled_from(["a + b", "b + a", "swap"]))
    a, b = conv(at, width), conv(n - at, width, 1)

    def forward(x: Tensor) -> Tensor:
        u, v = x.split([at, n - at], 1)
        if how == "swap":
            return torch.cat([v, u], 1)
        return a(u) + b(v) if how == "a + b" else b(v) + a(u)

    parts = {} if how == "swap" else {"a": a, "b": b}
    return Block(f"halves({at}, {width}, {how})", n if how == "swap" else width, forward, **parts)


def _chunks(draw: st.DrawFn, n: int) -> Block:
    """Pieces that must shrink together, used in any order."""
    pieces = draw(st.sampled_from([p for p in (2, 3, 4) if n % p == 0] or [1]))
    order = draw(st.permutations(range(pieces)))
    layer = conv(n // pieces, n // pieces)

    def forward(x: Tensor) -> Tensor:
        parts = x.chunk(pieces, 1)
        y = parts[order[0]]
        for number in order[1:]:
            y = y + layer(y) * parts[number]
        return y

    used = {"layer": layer} if pieces > 1 else {}
    return Block(f"chunks({pieces}, {order})", n // pieces, forward, **used)


def _shuffle(draw: st.DrawFn, n: int) -> Block:
    groups = draw(st.sampled_from([g for g in range(1, n + 1) if n % g == 0]))
    return Block(f"shuffle({groups})", n, lambda x: shuffle(x, groups))


def _shared(draw: st.DrawFn, n: int) -> Block:
    width, how = draw(WIDTHS), draw(st.sampled_from(["+", "*", "cat"]))
    a, b = conv_bn(n, width), conv_bn(n, width, 1)
    norm = nn.BatchNorm2d(n)

    def forward(x: Tensor) -> Tensor:
        u, v = a(x), b(norm(x))
        return torch.cat([v, u], 1) if how == "cat" else u + v if how == "+" else u * v

    n_out = 2 * width if how == "cat" else width
    return Block(f"shared({width}, {how})", n_out, forward, a=a, b=b, norm=norm)


def _padded(draw: st.DrawFn, n: int) -> Block:
    before, after = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    order = draw(st.booleans())
    layer = conv_bn(n, n + before + after)

    def forward(x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 0, 0, before, after))
        return padded + layer(x) if order else layer(x) + padded

    text = f"padded({before}, {after}, {order})"
    return Block(text, n + before + after, forward, layer=layer)


def _sliced(draw: st.DrawFn, n: int) -> Block:
    start = draw(st.integers(0, n - 2))
    stop = draw(st.integers(start + 2, n))
    return Block(f"sliced({start}, {stop})", stop - start, lambda x: x[:, start:stop])


BLOCKS = [
    _plain,
    _residual,
    _dense,
    _depthwise,
    _grouped,
    _squeeze_excite,
    _halves,
    _chunks,
    _shuffle,
    _shared,
    _padded,
    _sliced,
    *TOKEN_BLOCKS,
]


class RandomNet(nn.Module):
    """Blocks, then a head: average and linear, or flattened 4 x 4 pixels, in either layout."""

    def __init__(self, blocks: list[Block], head: str) -> None:
        super().__init__()
        self.blocks, self.how = nn.Sequential(*blocks), head
        width = blocks[-1].n_out
        self.head = nn.Linear(width if head == "average" else width * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(x)
        match self.how:
            case "average":
                return self.head(y.mean((2, 3)))
            case "flatten":
                return self.head(F.max_pool2d(y, 2).flatten(1))
            case _:
                return self.head(F.avg_pool2d(y, 2).permute(0, 2, 3, 1).flatten(1))

    def __repr__(self) -> str:
        return " -> ".join([*(block.text for block in self.blocks), self.how])


@st.composite
def networks(draw: st.DrawFn) -> RandomNet:
    """A stem and one to five blocks for 3 x 8 x 8 images, with moved statistics."""
    seed = draw(st.integers(0, 999))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        blocks = [_plain(draw, 3)]
        for make in draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5)):
            # Splits and slices need two channels; a block may leave one.
            fits = blocks[-1].n_out > 1
            blocks.append((make if fits else _plain)(draw, blocks[-1].n_out))
        head = draw(st.sampled_from(["average", "flatten", "channels last"]))
        return move_statistics(RandomNet(blocks, head), seed)
