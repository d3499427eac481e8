# Reptile meta-learning on sine waves (Nichol et al. 2018), outer loop with Adam
import copy
import math
import random

import torch
import torch.nn as nn

random.seed(0)
torch.manual_seed(0)

META_ITERS = 40
TASKS_PER_ITER = 2
INNER_STEPS = 5
INNER_LR = 0.02


class SineTask:
    def __init__(self):
        self.amp = random.uniform(0.5, 3.0)
        self.phase = random.uniform(0, math.pi)

    def batch(self, n=20):
        x = 10 * torch.rand(n, 1) - 5
        return x, self.amp * torch.sin(x + self.phase)


def adapt(model, task, steps):
    """Trains a copy of the model on the task."""
    learner = copy.deepcopy(model)
    opt = torch.optim.SGD(learner.parameters(), lr=INNER_LR)
    for _ in range(steps):
        x, y = task.batch()
        loss = nn.functional.mse_loss(learner(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    return learner, loss.item()


model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
meta_opt = torch.optim.Adam(model.parameters(), lr=3e-3)

history = []
for it in range(META_ITERS):
    learners = []
    for _ in range(TASKS_PER_ITER):
        learner, loss = adapt(model, SineTask(), INNER_STEPS)
        learners.append(learner)
        history.append(loss)

    # the "gradient" of reptile: from the adapted weights to the shared ones
    meta_opt.zero_grad()
    for p, *qs in zip(model.parameters(), *(l.parameters() for l in learners)):
        p.grad = torch.stack([p.detach() - q.detach() for q in qs]).mean(0)
    meta_opt.step()

    if (it + 1) % 10 == 0:
        recent = history[-20:]
        print(f"meta iteration {it + 1}: {sum(recent) / len(recent):.4f}")

_, final = adapt(model, SineTask(), 10)
print("final loss", final)
