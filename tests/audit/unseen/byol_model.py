import copy

import torch
import torch.nn as nn
import torch.nn.functional as F


def mlp(i, h, o):
    return nn.Sequential(nn.Linear(i, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, o))


class BYOL(nn.Module):
    """Online network + predictor; the target network follows the online one slowly."""

    def __init__(self, dim, hidden=48, out=16):
        super().__init__()
        self.online = mlp(dim, hidden, out)
        self.predictor = mlp(out, hidden, out)
        self.target = copy.deepcopy(self.online)

    def trainable(self):
        return [*self.online.parameters(), *self.predictor.parameters()]

    def loss(self, view, other):
        p = F.normalize(self.predictor(self.online(view)), dim=1)
        z = F.normalize(self.target(other), dim=1).detach()  # stop gradient
        return 2 - 2 * (p * z).sum(1).mean()

    @torch.no_grad()
    def update_target(self, tau):
        for t, o in zip(self.target.parameters(), self.online.parameters()):
            t.mul_(tau).add_(o, alpha=1 - tau)
