"""Attention, and the Transformer layers built on it."""

import torch
import torch.nn.functional as F
from torch import nn

from . import Network


def split_heads(x, heads):
    """[batch, time, width] to [batch, heads, time, width / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x):
    return x.transpose(1, 2).flatten(2)


class Additive(nn.Module):
    """A decoder step with additive attention over keys that are already projected, then a GRU cell."""

    def __init__(self, width=256):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)
        self.cell = nn.GRUCell(2 * width, width)

    def forward(self, y, s, keys, enc):
        energy = self.score(torch.tanh(self.query(s).unsqueeze(1) + keys))
        attn = energy.squeeze(-1).softmax(-1)
        context = (attn.unsqueeze(1) @ enc).squeeze(1)
        return self.cell(torch.cat([y, context], -1), s), attn


class Attention(nn.Module):
    """Self-attention of several heads, with one projection for queries, keys and values."""

    def __init__(self, width=512, heads=8):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def projected(self, x):
        return (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))

    def forward(self, x):
        return self.out(merge_heads(F.scaled_dot_product_attention(*self.projected(x))))


class EncoderLayer(nn.Module):
    """BERT's layer: attention and a GELU network, each added to its input and then normalised."""

    def __init__(self, width=768, heads=12, hidden=3072):
        super().__init__()
        self.attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)
        self.enter = nn.Linear(width, hidden)
        self.leave = nn.Linear(hidden, width)

    def forward(self, x):
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.leave(F.gelu(self.enter(x))))


class Encoder(nn.Module):
    def __init__(self, depth=12):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class DecoderLayer(nn.Module):
    """GPT-2's layer for one new token, given keys and values of those before."""

    def __init__(self, width=768, heads=12):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.enter = nn.Linear(width, 4 * width)
        self.leave = nn.Linear(4 * width, width)

    def forward(self, x, join):
        """`join` puts the new key and value behind the old ones."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(merge_heads(F.scaled_dot_product_attention(q, *join(k, v))))
        return x + self.leave(F.gelu(self.enter(self.norm2(x)), approximate="tanh")), k, v


class Decoder(Network):
    """One token through all layers; gives the new keys and values. `joined` copies the cache to append to
    it, as exported models do; `in_place` keeps a cache with room for the token."""

    variants = ("joined", "in_place")

    def __init__(self, depth=12):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(depth))
        self.norm = nn.LayerNorm(768)
        self.cache = None

    def through(self, x, join):
        new = []
        for l, layer in enumerate(self.layers):
            x, k, v = layer(x, lambda k, v: join(l, k, v))
            new.append((k, v))
        keys, values = zip(*new)
        return self.norm(x), torch.stack(keys), torch.stack(values)

    def as_joined(self, x, past_k, past_v):
        return self.through(x, lambda l, k, v: (torch.cat([past_k[l], k], 2), torch.cat([past_v[l], v], 2)))

    def as_in_place(self, x, past_k, past_v):
        if self.cache is None:
            self.cache = [F.pad(past, (0, 0, 0, 1)) for past in (past_k, past_v)]

        def join(l, k, v):
            for cache, new in zip(self.cache, (k, v)):
                cache[l, :, :, -1:] = new
            return [cache[l] for cache in self.cache]

        return self.through(x, join)


class RelativeAttention(Network):
    """Self-attention with learned keys and values for distances up to `reach` (Shaw et al.). `expanded`
    makes a matrix of keys for every pair of positions; `gathered` multiplies with the table first."""

    variants = ("expanded", "gathered")

    def __init__(self, length=128, width=512, heads=8, reach=16):
        super().__init__()
        self.attn = Attention(width, heads)
        self.rel_k = nn.Parameter(0.1 * torch.randn(2 * reach + 1, width // heads))
        self.rel_v = nn.Parameter(0.1 * torch.randn(2 * reach + 1, width // heads))
        i = torch.arange(length)
        distance = (i.unsqueeze(0) - i.unsqueeze(1)).clamp(-reach, reach) + reach
        self.register_buffer("distance", distance, persistent=False)

    def weights(self, scores, q):
        return (scores / q.shape[-1] ** 0.5).softmax(-1)

    def as_expanded(self, x):
        q, k, v = self.attn.projected(x)
        # [time, batch * heads, width of a head]: one product for every position.
        by_time = lambda t: t.permute(2, 0, 1, 3).flatten(1, 2)
        back = lambda t: t.unflatten(1, q.shape[:2]).permute(1, 2, 0, 3)
        a = self.weights(q @ k.mT + back(by_time(q) @ self.rel_k[self.distance].mT), q)
        y = a @ v + back(by_time(a) @ self.rel_v[self.distance])
        return self.attn.out(merge_heads(y))

    def as_gathered(self, x):
        q, k, v = self.attn.projected(x)
        scores = q @ k.mT
        distance = self.distance.expand_as(scores)
        a = self.weights(scores + (q @ self.rel_k.t()).gather(-1, distance), q)
        by_distance = torch.zeros(*a.shape[:3], len(self.rel_v)).scatter_add(-1, distance, a)
        return self.attn.out(merge_heads(a @ v + by_distance @ self.rel_v))


class Primer(nn.Module):
    """Primer-EZ: causal filters over queries, keys and values, causal attention, squared ReLU."""

    def __init__(self, width=512, heads=8, hidden=2048):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.filter = nn.Conv1d(3 * width, 3 * width, 3, groups=3 * width)
        self.enter = nn.Linear(width, hidden)
        self.leave = nn.Linear(hidden, width)

    def forward(self, x):
        z = self.attn.qkv(self.norm1(x)).mT
        z = self.filter(F.pad(z, (2, 0))).mT
        q, k, v = (split_heads(part, self.attn.heads) for part in z.chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn.out(merge_heads(y))
        return x + self.leave(F.relu(self.enter(self.norm2(x))).square())
