"""The functions that are timed, as PyTorch modules.

A network may offer several formulations of one function, its variants: which of them is fastest differs
from engine to engine, and each engine is judged by the one that suits it best. All variants of a network
share its weights. The order in which weights are drawn is part of a workload: it fixes their values.
"""

from torch import nn


class Network(nn.Module):
    """A module whose `forward` is the method that `variant` names: `as_<variant>`."""

    variants: tuple[str, ...] = ()

    def __init__(self):
        super().__init__()
        self.variant = self.variants[0]

    def select(self, variant: str) -> None:
        """Chooses a formulation, and makes what it needs besides the weights."""
        if variant not in self.variants:
            raise ValueError(f"{type(self).__name__} has no variant {variant!r}")
        self.variant = variant
        prepare = getattr(self, "prepare_" + variant, None)
        if prepare:
            prepare()

    def forward(self, *inputs):
        return getattr(self, "as_" + self.variant)(*inputs)
