"""Graph networks on a random graph of the size of Cora; edges are part of the model, not inputs."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import Network

NODES, LINKS = 2708, 5278


def random_graph(loops):
    """Source, target and weight of each edge, by target and then by source. With `loops` every node also
    has an edge to itself, and weights are those of symmetric normalisation; else all are one."""
    draw = np.random.default_rng(7)
    links = set()
    while len(links) < LINKS:
        a, b = sorted(draw.integers(0, NODES, 2).tolist())
        if a < b:
            links.add((a, b))
    edges = [(b, a) for a, b in links] + [(a, b) for a, b in links]
    if loops:
        edges += [(n, n) for n in range(NODES)]
    target, source = np.array(sorted(edges)).T
    weight = np.ones(len(edges))
    if loops:
        degree = np.bincount(target, minlength=NODES)
        weight = 1.0 / np.sqrt(degree[source] * degree[target].astype(np.float64))
    return (torch.from_numpy(np.ascontiguousarray(a)) for a in (source, target, weight.astype(np.float32)))


class GraphNetwork(Network):
    """Sums weighted neighbours: as a product with a sparse (`csr`) or a `dense` matrix, or by adding the
    message of each edge where it belongs (`added`, and `scattered`, which exporters know)."""

    variants = ("csr", "added", "scattered", "dense")

    def __init__(self, loops):
        super().__init__()
        source, target, weight = random_graph(loops)
        self.register_buffer("src", source)
        self.register_buffer("dst", target)
        self.register_buffer("edge_weight", weight)
        self.register_buffer("matrix", None, persistent=False)

    def prepare_csr(self):
        counts = torch.bincount(self.dst, minlength=NODES)
        starts = F.pad(counts.cumsum(0), (1, 0))
        self.matrix = torch.sparse_csr_tensor(starts, self.src, self.edge_weight, (NODES, NODES))

    def prepare_dense(self):
        matrix = torch.zeros(NODES, NODES)
        matrix[self.dst, self.src] = self.edge_weight
        self.matrix = matrix

    def neighbours(self, h):
        if self.variant in ("csr", "dense"):
            return self.matrix @ h
        messages = self.edge_weight.unsqueeze(1) * h[self.src]
        if self.variant == "added":
            return torch.zeros_like(h).index_add(0, self.dst, messages)
        return torch.zeros_like(h).scatter_add(0, self.dst.unsqueeze(1).expand(-1, h.shape[1]), messages)

    def forward(self, *inputs):
        return self.layers(*inputs)


class Gcn(GraphNetwork):
    """Two graph convolutions (Kipf and Welling) on dense features."""

    def __init__(self, features=1433, hidden=16, classes=7):
        super().__init__(loops=True)
        self.lin1 = nn.Linear(features, hidden, bias=False)
        self.lin2 = nn.Linear(hidden, classes, bias=False)
        self.bias1 = nn.Parameter(0.1 * torch.randn(hidden))
        self.bias2 = nn.Parameter(0.1 * torch.randn(classes))

    def layers(self, x):
        h = F.relu(self.neighbours(self.lin1(x)) + self.bias1)
        return self.neighbours(self.lin2(h)) + self.bias2


class Ggnn(GraphNetwork):
    """A gated graph network: messages of each step through a matrix of their own, one GRU cell for all."""

    def __init__(self, width=64, steps=5):
        super().__init__(loops=False)
        self.weight = nn.Parameter(torch.randn(steps, width, width) / width**0.5)
        self.rnn = nn.GRUCell(width, width)

    def layers(self, h):
        for weight in self.weight:
            h = self.rnn(self.neighbours(h @ weight), h)
        return h


class StGcn(nn.Module):
    """Gated convolution over time, convolution over a weighted graph, gated convolution over time."""

    def __init__(self, channels=64, nodes=207, window=3):
        super().__init__()
        gated = [nn.Conv2d(channels, 2 * channels, (window, 1)) for _ in range(2)]
        self.before, self.after = gated
        self.theta = nn.Linear(channels, channels)
        a = torch.rand(nodes, nodes) * (torch.rand(nodes, nodes) < 0.05) + torch.eye(nodes)
        self.register_buffer("adjacency", a / a.sum(1, keepdim=True))

    def forward(self, x):
        h = F.glu(self.before(x), 1)
        mixed = self.adjacency @ h.permute(0, 2, 3, 1)
        h = F.relu(self.theta(mixed)).permute(0, 3, 1, 2)
        return F.glu(self.after(h), 1)
