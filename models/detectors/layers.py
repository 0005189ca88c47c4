"""The building blocks of the networks: from sequences (n, steps, features) to logits (n, n_classes)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cellwatch.models.detectors.detector import SEQUENCE


class Recurrent(nn.Module):
    """Last state (of both directions) of one recurrent layer, then a linear head."""

    def __init__(self, cell: nn.RNNBase, classes: int, dropout: float) -> None:
        super().__init__()
        self.cell = cell
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(cell.hidden_size * (2 if cell.bidirectional else 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.cell(self.drop(x))
        last = state[0] if isinstance(state, tuple) else state  # an LSTM also gives its cell state
        return self.head(self.drop(last.transpose(0, 1).flatten(1)))  # type: ignore[no-any-return]


class Convolved(nn.Module):
    """A body over (n, channels, steps); the judged step beside the largest over all steps; a linear head."""

    def __init__(self, body: nn.Module, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.body = body
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(2 * channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.drop(x).transpose(1, 2))
        return self.head(self.drop(torch.cat([y[:, :, -1], y.amax(dim=2)], dim=1)))  # type: ignore[no-any-return]


class OverSteps(nn.Module):
    """A convolution over the steps of (n, steps, features), with ReLU."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)


class Residual(nn.Module):
    """relu(x + two convolutions of x), each with batch normalisation (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Attention(nn.Module):
    """Self-attention and a feed-forward layer, normalised before, added after (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.width = width
        self.before = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        size = self.width // self.heads
        split = self.project(self.before(x)).reshape(-1, SEQUENCE, 3, self.heads, size)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        share = torch.softmax(query @ key.transpose(-1, -2) * size**-0.5, dim=-1)
        x = x + self.join((share @ value).transpose(1, 2).reshape(-1, SEQUENCE, self.width))
        return x + self.feed(x)  # type: ignore[no-any-return]


class Attentive(nn.Module):
    """Projected windows with learnt positions, attention layers; the judged step, then a linear head."""

    def __init__(self, width: int, inner: int, layers: int, heads: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(width, inner)
        self.place = nn.Parameter(0.02 * torch.randn(SEQUENCE, inner))
        self.drop = nn.Dropout(dropout)
        self.body = nn.Sequential(*(Attention(inner, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(inner)
        self.head = nn.Linear(inner, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.drop(self.project(x) + self.place))
        return self.head(self.drop(self.norm(y[:, -1])))  # type: ignore[no-any-return]


class Reconstructing(nn.Module):
    """An autoencoder; its code and what it cannot reconstruct feed a hidden layer and a linear head."""

    def __init__(self, width: int, code: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, code))
        self.decoder = nn.Sequential(nn.ReLU(), nn.Linear(code, 64), nn.ReLU(), nn.Linear(64, width))
        self.head = nn.Sequential(
            nn.Linear(code + width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    def residual(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Code (n, code) and x minus its reconstruction (n, width)."""
        code = self.encoder(x)
        return code, x - self.decoder(code)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat(self.residual(x), dim=1))  # type: ignore[no-any-return]
