"""Fully connected nets of all members of an ensemble, computed together.

The weights of a layer are stacked, (members, in, out), so that one batched product serves every member that
has the layer. Members differ in depth: all share the first hidden layer and the last one; between them a
deeper member has more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional


class Stack(torch.nn.Module):
    """Nets from (members, n, inputs) to (members, n, outputs) with LeakyReLU (slope 0: ReLU) in between.

    `depths`: layers of each member, ascending, at least 2.
    """

    def __init__(self, depths: Sequence[int], inputs: int, hidden: int, outputs: int, slope: float) -> None:
        super().__init__()
        if list(depths) != sorted(depths):
            raise ValueError(f"depths ascend, not {tuple(depths)}")
        self.depths = tuple(depths)
        self.slope = slope
        self.first = [
            sum(d < layer + 2 for d in depths) for layer in range(max(depths) - 1)
        ]  # per hidden layer
        widths = [(inputs, hidden), *[(hidden, hidden)] * (len(self.first) - 1), (hidden, outputs)]
        starts = [*self.first, 0]
        self.weights = torch.nn.ParameterList(
            torch.zeros(len(depths) - start, *shape) for start, shape in zip(starts, widths, strict=True)
        )
        self.biases = torch.nn.ParameterList(
            torch.zeros(len(depths) - start, 1, out) for start, (_, out) in zip(starts, widths, strict=True)
        )

    @torch.no_grad()
    def start(self, member: int, generator: torch.Generator) -> None:
        """Draw the weights of one member anew (He et al., ICCV 2015); biases 0."""
        for start, weight, bias in zip([*self.first, 0], self.weights, self.biases, strict=True):
            if member >= start:  # it has this layer
                scale = (2.0 / ((1 + self.slope**2) * weight.shape[1])) ** 0.5
                weight[member - start] = scale * torch.randn(weight.shape[1:], generator=generator)
                bias[member - start] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self._last(self.hidden(x)[-1])

    def hidden(self, x: Tensor) -> list[Tensor]:
        """The outputs of the hidden layers, (members, n, hidden) each."""
        return self._onwards(torch.baddbmm(self.biases[0], x, self.weights[0]))

    def with_gradient(self, x: Tensor, weigh: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The outputs y, and the gradient (members, n, inputs) of their sum, weighted by `weigh(y)`."""
        layers = self.hidden(x)
        y = self._last(layers[-1])
        return y, self._back(layers, weigh(y) @ self.weights[-1].transpose(1, 2)) @ self.weights[0].transpose(
            1, 2
        )

    def between(
        self, a: Tensor, b: Tensor, share: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs at a and at b, and the squared length (members, n) of the gradient between them.

        That is the gradient of the sum of outputs by the inputs where `mask` (members, 1, inputs) is 1, at
        a + share (b - a). The slopes of LeakyReLU do not change with the weights (almost everywhere), so it
        is a chain of products, which can be differentiated without a graph of the backward pass. Up to the
        first activation all is linear: neither the points between nor the gradients are ever written out.
        """
        n, first = a.shape[1], self.weights[0]
        ends = torch.baddbmm(self.biases[0], torch.cat([a, b], dim=1), first)
        at_a, at_b = ends.split_with_sizes([n, n], dim=1)
        layers = self._onwards(torch.cat([ends, torch.lerp(at_a, at_b, share)], dim=1))
        y_a, y_b, _ = self._last(layers[-1]).split_with_sizes([n, n, n], dim=1)
        top = self.weights[-1].transpose(1, 2).expand(-1, n, -1)
        g = self._back([h[:, 2 * n :] for h in layers], top)
        gram = (first if mask is None else first * mask.transpose(1, 2)).transpose(1, 2) @ first
        return y_a, y_b, ((g @ gram) * g).sum(dim=2)

    @torch.no_grad()
    def select(self, members: Sequence[int]) -> Stack:
        """A copy with some of the members, in ascending order."""
        _, inputs, hidden = self.weights[0].shape
        made = Stack([self.depths[i] for i in members], inputs, hidden, self.weights[-1].shape[2], self.slope)
        layers = [*range(len(made.first)), -1]
        for kind in ("weights", "biases"):
            for layer in layers:
                start = 0 if layer == -1 else self.first[layer]
                getattr(made, kind)[layer].copy_(
                    getattr(self, kind)[layer][[i - start for i in members if i >= start]]
                )
        return made

    @torch.no_grad()
    def put(self, other: Stack, members: Sequence[int]) -> None:
        """Take over what `other` has learnt for some of the members; the opposite of `select`."""
        for layer in [*range(len(other.first)), -1]:
            start = 0 if layer == -1 else self.first[layer]
            at = [i - start for i in members if i >= start]
            self.weights[layer][at] = other.weights[layer]
            self.biases[layer][at] = other.biases[layer]

    @torch.no_grad()
    def finite(self) -> Tensor:
        """(members,) bool: whether all weights of a member are numbers."""
        sound = torch.ones(len(self.depths), dtype=torch.bool, device=self.weights[0].device)
        for start, weight, bias in zip([*self.first, 0], self.weights, self.biases, strict=True):
            sound[start:] &= (weight.sum(dim=(1, 2)) + bias.sum(dim=(1, 2))).isfinite()
        return sound

    def _onwards(self, x: Tensor) -> list[Tensor]:
        """The outputs of the hidden layers, from what the first one has before its activation."""
        layers = [functional.leaky_relu(x, self.slope)]
        for start, weight, bias in zip(self.first[1:], self.weights[1:], self.biases[1:], strict=False):
            shallow, deep = _parted(layers[-1], start)
            h = functional.leaky_relu(torch.baddbmm(bias, deep, weight), self.slope)
            layers.append(h if shallow is None else torch.cat([shallow, h]))
        return layers

    def _back(self, layers: list[Tensor], g: Tensor) -> Tensor:
        """The gradient by the first layer's values before its activation; `g`: by the last hidden layer."""
        for layer in range(len(layers) - 1, -1, -1):
            start = self.first[layer]
            shallow, deep = _parted(g, start)
            deep = deep * torch.where(layers[layer][start:] > 0, 1.0, self.slope)
            if layer:
                deep = deep @ self.weights[layer].transpose(1, 2)
            g = deep if shallow is None else torch.cat([shallow, deep])
        return g

    def _last(self, h: Tensor) -> Tensor:
        weight, bias = self.weights[-1], self.biases[-1]
        if weight.shape[2] == 1:  # too narrow for a matrix product to pay
            narrow: Tensor = (h * weight.transpose(1, 2)).sum(dim=2, keepdim=True) + bias
            return narrow
        return torch.baddbmm(bias, h, weight)


def _parted(x: Tensor, start: int) -> tuple[Tensor | None, Tensor]:
    """The members without a layer, None if there are none, and those with it."""
    if not start:
        return None, x
    shallow, deep = x.split_with_sizes([start, len(x) - start])
    return shallow, deep
