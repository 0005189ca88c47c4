"""Multi-layer perceptron, the plainest network of the ensemble."""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.types import F32, I64


class MLP:
    """Two hidden layers with dropout; weighted cross-entropy, Adam, a fixed number of epochs."""

    NAME: ClassVar[str] = "MLP"

    def __init__(self, classes: tuple[str, ...], seed: int = 0, hidden: int = 64, epochs: int = 30) -> None:
        self.classes = classes
        self.seed = seed
        self.hidden = hidden
        self.epochs = epochs

    def fit(self, x: F32, y: I64) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(1)  # for a net this small threads cost more than they save, most on busy cores
        torch.manual_seed(self.seed)
        self._width = x.shape[1]
        self._net = nn.Sequential(
            nn.Linear(self._width, self.hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(self.hidden, self.hidden // 2),
            nn.ReLU(),
            nn.Linear(self.hidden // 2, len(self.classes)),
            nn.Softmax(dim=1),
        )
        weight = torch.from_numpy(class_weights(y, len(self.classes)).astype(np.float32))
        loss = nn.NLLLoss(weight=weight)
        optimiser = torch.optim.Adam(self._net.parameters(), lr=2e-3, weight_decay=1e-4)
        inputs, targets = torch.from_numpy(x), torch.from_numpy(np.asarray(y))
        order = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            self._net.train()
            for rows in torch.split(torch.randperm(len(inputs), generator=order), 256):
                optimiser.zero_grad()
                value = loss(torch.log(self._net(inputs[rows]).clamp_min(1e-9)), targets[rows])
                value.backward()
                optimiser.step()
        self._net.eval()

    def predict_proba(self, x: F32) -> F32:
        import torch

        with torch.no_grad():
            return np.asarray(self._net(torch.from_numpy(x)).numpy(), dtype=np.float32)

    def to_onnx(self) -> bytes:
        import torch

        out = io.BytesIO()
        torch.onnx.export(
            self._net,
            (torch.zeros(1, self._width),),
            out,  # type: ignore[arg-type]
            input_names=["x"],
            output_names=["probabilities"],
            dynamic_axes={"x": {0: "n"}, "probabilities": {0: "n"}},
            opset_version=15,
            dynamo=False,
        )
        return out.getvalue()
