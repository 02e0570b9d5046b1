"""Attention over a fixed part of the pairs, between four projections."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import Network
from .attention import merge_heads, split_heads


class SparseAttention(Network):
    """What the patterns share. `dense` computes all pairs and masks; other variants follow the pattern."""

    variants = ("dense",)

    def __init__(self, length, width=512, heads=8):
        super().__init__()
        self.length, self.heads = length, heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def allowed(self):
        """Booleans that broadcast to [1, heads, queries, keys]."""
        raise NotImplementedError

    def pairs(self):
        """Pairs that are allowed, over all heads."""
        raise NotImplementedError

    def prepare_dense(self):
        self.register_buffer("mask", self.allowed(), persistent=False)

    def projected(self, x):
        return (split_heads(p(x), self.heads) for p in (self.q, self.k, self.v))

    def as_dense(self, x):
        y = F.scaled_dot_product_attention(*self.projected(x), attn_mask=self.mask)
        return self.o(merge_heads(y))

    def distance(self):
        i = torch.arange(self.length)
        return i.unsqueeze(1) - i


class Local(SparseAttention):
    """Keys at most `reach` away. `chunked` cuts the queries into chunks of `reach`, each of which sees its
    own chunk of keys and both neighbours."""

    variants = ("dense", "chunked")

    def __init__(self, length, reach=256):
        super().__init__(length)
        self.reach = reach

    def allowed(self):
        return (self.distance().abs() <= self.reach)[None, None]

    def pairs(self):
        inside = self.length * (2 * self.reach + 1)
        return self.heads * (inside - self.reach * (self.reach + 1))

    def prepare_chunked(self):
        r, chunks = self.reach, self.length // self.reach
        query, key = torch.arange(r)[:, None], torch.arange(3 * r)
        mask = ((key - r - query).abs() <= r).repeat(chunks, 1, 1)
        mask[0, :, :r] = False
        mask[-1, :, 2 * r :] = False
        self.register_buffer("mask", mask.unsqueeze(0), persistent=False)

    def as_chunked(self, x):
        r = self.reach
        q, k, v = (t.squeeze(0) for t in self.projected(x))

        def windows(t):
            parts = F.pad(t, (0, 0, r, r)).unflatten(1, (-1, r))
            return torch.cat([parts[:, :-2], parts[:, 1:-1], parts[:, 2:]], 2)

        # Chunks take the place of heads, and heads that of the batch.
        y = F.scaled_dot_product_attention(q.unflatten(1, (-1, r)), windows(k), windows(v), attn_mask=self.mask)
        return self.o(merge_heads(y.flatten(1, 2).unsqueeze(0)))


class Strided(SparseAttention):
    """The last `stride` positions, and every position a multiple of it before (Child et al.)."""

    def __init__(self, length, stride=64):
        super().__init__(length)
        self.stride = stride

    def allowed(self):
        d = self.distance()
        return ((d >= 0) & ((d < self.stride) | (d % self.stride == 0)))[None, None]

    def pairs(self):
        i = np.arange(self.length)
        return self.heads * int((np.minimum(i + 1, self.stride) + i // self.stride).sum())


class BigBird(SparseAttention):
    """Blocks: the first and the last, the query's own and its neighbours, and some drawn for each head and
    block of queries. The first and the last block of queries see everything. `gathered` copies the blocks
    of keys that each block of queries sees."""

    variants = ("dense", "gathered")

    def __init__(self, length, block=64, drawn=3):
        super().__init__(length)
        self.block, self.blocks = block, length // block
        draw = np.random.default_rng(11)
        last = self.blocks - 1
        rand = np.empty((self.heads, self.blocks - 2, drawn), np.int64)
        for h in range(self.heads):
            for i in range(1, last):
                free = [j for j in range(self.blocks) if j not in (0, i - 1, i, i + 1, last)]
                rand[h, i - 1] = draw.choice(free, drawn, replace=False)
        self.register_buffer("rand_blocks", torch.from_numpy(rand))

    def seen(self):
        """[heads, blocks of queries, blocks of keys]"""
        n = torch.arange(self.blocks)
        end = (n == 0) | (n == self.blocks - 1)
        near = (n[:, None] - n).abs() <= 1
        seen = (near | end | end[:, None]).repeat(self.heads, 1, 1)
        seen[:, 1:-1].scatter_(2, self.rand_blocks, True)
        return seen

    def allowed(self):
        by_block = self.seen().repeat_interleave(self.block, 1)
        return by_block.repeat_interleave(self.block, 2).unsqueeze(0)

    def pairs(self):
        return int(self.seen().sum()) * self.block**2

    def prepare_gathered(self):
        seen = self.seen()[:, 1:-1]
        width = int(seen.sum(-1).max())
        # The blocks that are seen come first; where there are fewer, the rest is masked.
        order = seen.int().argsort(dim=-1, descending=True, stable=True)[..., :width]
        keep = seen.gather(-1, order).repeat_interleave(self.block, -1)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("mask", keep.unsqueeze(2), persistent=False)

    def as_gathered(self, x):
        q, k, v = self.projected(x)
        in_blocks = lambda t: t.squeeze(0).unflatten(1, (self.blocks, self.block))
        head = torch.arange(self.heads)[:, None, None]
        keys, values = (in_blocks(t)[head, self.order].flatten(2, 3) for t in (k, v))
        inner = F.scaled_dot_product_attention(in_blocks(q)[:, 1:-1], keys, values, attn_mask=self.mask)
        ends = torch.cat([q[:, :, : self.block], q[:, :, -self.block :]], 2)
        first, last = F.scaled_dot_product_attention(ends, k, v).chunk(2, 2)
        y = torch.cat([first, inner.flatten(1, 2).unsqueeze(0), last], 2)
        return self.o(merge_heads(y))
