"""A class fits each batch with LBFGS; its closure computes loss and gradient, but the gradient is cleared only after.

Instead: optimizer.zero_grad() in the closure, before loss.backward()
"""

from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Regression:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.LBFGS(model.parameters(), lr=0.05, max_iter=3, history_size=5)

    def loss_and_gradient(self, inputs, targets):
        # + self.optimizer.zero_grad()
        loss = nn.functional.smooth_l1_loss(self.model(inputs), targets)
        loss = loss + 1e-4 * sum(p.square().sum() for p in self.model.parameters())
        loss.backward()  # here
        return loss

    def fit(self, loader, epochs):
        for _epoch in range(epochs):
            for batch in loader:
                self.optimizer.step(partial(self.loss_and_gradient, *batch))
                self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(128, 4)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32)
Regression(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))).fit(data, 5)
