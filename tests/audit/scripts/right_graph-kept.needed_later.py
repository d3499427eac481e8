"""The features of an episode are kept with their graphs, because the policy's pass at its end needs them all."""

import torch
from torch import nn

torch.manual_seed(0)
body = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
value, policy = nn.Linear(8, 1), nn.Linear(8, 2)
of_value = torch.optim.SGD(value.parameters(), lr=0.01)
of_policy = torch.optim.Adam([*body.parameters(), *policy.parameters()], lr=0.01)
for _episode in range(3):
    chosen, rewards = [], []
    for _ in range(80):
        state = torch.randn(1, 4)
        features = body(state)
        action = torch.distributions.Categorical(logits=policy(features))
        taken = action.sample()
        rewards.append(float(taken == (state.sum() > 0)))
        chosen.append(action.log_prob(taken))
        of_value.zero_grad()
        nn.functional.mse_loss(value(features).squeeze(), torch.tensor(rewards[-1])).backward(retain_graph=True)
        of_value.step()
    of_policy.zero_grad()
    gain = torch.cat(chosen) * (torch.tensor(rewards) - 0.5)
    (-gain.mean()).backward()
    of_policy.step()
