"""Three steps of projected gradient descent on the input; their backward passes also fill .grad of the model.

Instead: torch.autograd.grad(loss, inputs) instead of that pass; or optimizer.zero_grad() after it, if the loop
accumulates nothing
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Attack:
    def __init__(self, model, radius=0.1, steps=3):
        self.model, self.radius, self.steps = model, radius, steps

    def __call__(self, inputs, labels):
        noise = torch.zeros_like(inputs)
        for _ in range(self.steps):
            noise.requires_grad_(True)
            loss = nn.functional.cross_entropy(self.model(inputs + noise), labels)
            loss.backward()  # - here
            gradient = noise.grad  # -
            # + (gradient,) = torch.autograd.grad(loss, noise)
            noise = (noise.detach() + self.radius / 2 * gradient.sign()).clamp(-self.radius, self.radius)
        return inputs + noise


torch.manual_seed(0)
x = torch.randn(128, 6)
loader = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer, attack = torch.optim.Adam(model.parameters(), lr=1e-3), Attack(model)
for _epoch in range(4):
    for inputs, labels in loader:
        optimizer.zero_grad()
        adversarial = attack(inputs, labels)
        nn.functional.cross_entropy(model(adversarial), labels).backward()
        optimizer.step()
