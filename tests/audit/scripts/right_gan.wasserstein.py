"""A Wasserstein GAN: five critic steps with a gradient penalty per generator step."""

import torch
from torch import nn

torch.manual_seed(0)
generator, critic = nn.Linear(2, 4), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
of_generator = torch.optim.Adam(generator.parameters(), lr=0.001)
of_critic = torch.optim.Adam(critic.parameters(), lr=0.001)
for nth in range(60):
    real = torch.randn(16, 4)
    made = generator(torch.randn(16, 2))
    if nth % 6 < 5:
        of_critic.zero_grad()
        between = (real + made.detach()).div(2).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        (critic(made.detach()).mean() - critic(real).mean() + 10 * penalty).backward()
        of_critic.step()
    else:
        of_generator.zero_grad()
        (-critic(made).mean()).backward()
        of_generator.step()
