"""A GAN without detach(): the generator's step uses gradient of the discriminator's loss.

Instead: zero_grad() before its own loss.backward(), or detach() before the other loss
"""

import torch
from torch import nn

torch.manual_seed(0)
generator, discriminator = nn.Linear(2, 4), nn.Linear(4, 1)
of_generator = torch.optim.Adam(generator.parameters(), lr=0.01)
of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=0.01)
judge = nn.functional.binary_cross_entropy_with_logits
for _ in range(24):
    of_generator.zero_grad()
    of_discriminator.zero_grad()
    judge(discriminator(torch.randn(16, 4)), torch.ones(16, 1)).backward()
    judge(discriminator(generator(torch.randn(16, 2))), torch.zeros(16, 1)).backward()  # - here
    # + judge(discriminator(generator(torch.randn(16, 2)).detach()), torch.zeros(16, 1)).backward()
    of_discriminator.step()
    judge(discriminator(generator(torch.randn(16, 2))), torch.ones(16, 1)).backward()
    of_generator.step()
