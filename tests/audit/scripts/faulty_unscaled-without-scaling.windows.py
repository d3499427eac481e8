"""Windows of two: the scaled loss only goes to the log, with the scale.

Instead: scaler.scale(loss).backward(), with the tensor that scale() returns
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model):
        self.model, self.log = model, []
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)

    def forward_backward(self, inputs, targets):
        loss = 3 * nn.functional.mse_loss(self.model(inputs), targets) / 2
        scaled = self.scaler.scale(loss)
        loss.backward()  # - here
        # + scaled.backward()
        self.log.append((scaled.item(), self.scaler.get_scale()))

    def fit(self, loader, epochs):
        for _epoch in range(epochs):
            for nth, batch in enumerate(loader, 1):
                self.forward_backward(*batch)
                if nth % 2 == 0:
                    self.scaler.unscale_(self.optimizer)
                    nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                    self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(64, 4)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))).fit(data, 4)
