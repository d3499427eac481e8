"""Reinforcement learning with an autoencoder: the critic's optimizer and the encoder's own both train the encoder."""

import torch
from torch import nn

torch.manual_seed(0)
encoder, decoder, value = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(8, 1)
by_critic = torch.optim.Adam([*encoder.parameters(), *value.parameters()], lr=1e-3)
by_encoder = torch.optim.Adam(encoder.parameters(), lr=1e-3)
by_decoder = torch.optim.Adam(decoder.parameters(), lr=1e-3)
for _ in range(30):
    x = torch.randn(8, 4)
    by_critic.zero_grad()
    nn.functional.mse_loss(value(torch.tanh(encoder(x))), x.sum(1, keepdim=True)).backward()
    by_critic.step()
    by_encoder.zero_grad()
    by_decoder.zero_grad()
    nn.functional.mse_loss(decoder(torch.tanh(encoder(x))), x).backward()
    by_encoder.step()
    by_decoder.step()
