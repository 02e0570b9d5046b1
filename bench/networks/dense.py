"""Feed-forward networks, and mixtures of them."""

import torch
import torch.nn.functional as F
from torch import nn

from . import Network


class Mlp(nn.Module):
    """Three linear layers with a ReLU between."""

    def __init__(self, inputs=784, hidden=512, classes=10):
        super().__init__()
        sizes = [(inputs, hidden), (hidden, hidden), (hidden, classes)]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in sizes)

    def forward(self, x):
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)


class Highway(nn.Module):
    """Layers that mix a ReLU of their input with the input, by a learned gate."""

    def __init__(self, width=512, depth=10):
        super().__init__()
        self.plain = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gate = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for gate in self.gate:
            nn.init.constant_(gate.bias, -1.0)

    def forward(self, x):
        for plain, gate in zip(self.plain, self.gate):
            g = torch.sigmoid(gate(x))
            x = g * F.relu(plain(x)) + (1.0 - g) * x
        return x


class Gmlp(nn.Module):
    """The gMLP block: half of the channels gates the other half through a linear map over time."""

    def __init__(self, length=128, width=256, channels=768):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 2 * channels)
        self.gate_norm = nn.LayerNorm(channels)
        self.over_time = nn.Linear(length, length)
        self.leave = nn.Linear(channels, width)
        nn.init.ones_(self.over_time.bias)

    def forward(self, x):
        kept, gating = F.gelu(self.enter(self.norm(x))).chunk(2, -1)
        gate = self.over_time(self.gate_norm(gating).mT).mT
        return x + self.leave(kept * gate)


class Moe(Network):
    """The two most likely of many small ReLU networks for each row, weighted by renormalised probabilities.

    `looped` visits the experts that some row chose; `sorted` orders the choices by expert first; `grouped`
    does so too and hands the groups to one operator; `gathered` copies the weights of each choice, which
    keeps all shapes static; `dense` runs every expert on every row.
    """

    variants = ("looped", "sorted", "grouped", "gathered", "dense")

    def __init__(self, experts, width=256, hidden=1024, chosen=2):
        super().__init__()
        self.experts, self.chosen = experts, chosen
        self.gate = nn.Linear(width, experts, bias=False)
        self.w1 = nn.Parameter(torch.empty(experts, width, hidden).normal_(0, width**-0.5))
        self.w2 = nn.Parameter(torch.empty(experts, hidden, width).normal_(0, hidden**-0.5))

    def route(self, x):
        """Weight and number of the chosen experts, each [rows, chosen]."""
        weight, expert = torch.topk(self.gate(x).softmax(-1), self.chosen, -1)
        return weight / weight.sum(-1, keepdim=True), expert

    def as_looped(self, x):
        weight, expert = self.route(x)
        y = torch.zeros_like(x)
        for e in expert.unique().tolist():
            row, place = torch.where(expert == e)
            out = F.relu(x[row] @ self.w1[e]) @ self.w2[e]
            y.index_add_(0, row, weight[row, place].unsqueeze(1) * out)
        return y

    def by_expert(self, expert):
        """Order of the choices by expert, the row of each, and the number of choices of each expert."""
        flat = expert.flatten()
        order = flat.argsort(stable=True)
        return order, order.div(self.chosen, rounding_mode="floor"), flat.bincount(minlength=self.experts)

    def combined(self, x, weight, order, row, out):
        return torch.zeros_like(x).index_add_(0, row, weight.flatten()[order].unsqueeze(1) * out)

    def as_sorted(self, x):
        weight, expert = self.route(x)
        order, row, counts = self.by_expert(expert)
        parts = x[row].split(counts.tolist())
        out = [F.relu(part @ self.w1[e]) @ self.w2[e] for e, part in enumerate(parts) if len(part)]
        return self.combined(x, weight, order, row, torch.cat(out))

    def as_grouped(self, x):
        weight, expert = self.route(x)
        order, row, counts = self.by_expert(expert)
        ends = counts.cumsum(0).to(torch.int32)
        hidden = F.relu(F.grouped_mm(x[row], self.w1, offs=ends))
        return self.combined(x, weight, order, row, F.grouped_mm(hidden, self.w2, offs=ends))

    def as_gathered(self, x):
        weight, expert = self.route(x)
        flat = expert.flatten()
        rows = x.unsqueeze(1).expand(-1, self.chosen, -1).reshape(len(flat), 1, -1)
        out = torch.bmm(F.relu(torch.bmm(rows, self.w1[flat])), self.w2[flat])
        return (out.view(*expert.shape, -1) * weight.unsqueeze(-1)).sum(1)

    def as_dense(self, x):
        weight, expert = self.route(x)
        gates = torch.zeros(len(x), self.experts).scatter(1, expert, weight)
        out = F.relu(x @ self.w1) @ self.w2
        return (out * gates.t().unsqueeze(-1)).sum(0)
