"""InfoGAN: a third optimizer for both networks; before that, one trains the body alone, then the whole model."""

import torch
from torch import nn

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))
critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
warm_up = torch.optim.SGD(critic[2].parameters(), lr=0.01)
by_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
by_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
by_both = torch.optim.Adam([*generator.parameters(), *critic.parameters()], lr=1e-3)
score = nn.functional.binary_cross_entropy_with_logits
for _ in range(10):
    warm_up.zero_grad()
    score(critic(torch.randn(8, 4))[:, :1], torch.ones(8, 1)).backward()
    warm_up.step()
for _ in range(30):
    code, real = torch.randn(8, 3), torch.randn(8, 4)
    by_generator.zero_grad()
    score(critic(generator(code))[:, :1], torch.ones(8, 1)).backward()
    by_generator.step()
    by_critic.zero_grad()
    loss = score(critic(real)[:, :1], torch.ones(8, 1))
    (loss + score(critic(generator(code).detach())[:, :1], torch.zeros(8, 1))).backward()
    by_critic.step()
    by_both.zero_grad()
    nn.functional.mse_loss(critic(generator(code))[:, 1:], code[:, :1]).backward()
    by_both.step()
