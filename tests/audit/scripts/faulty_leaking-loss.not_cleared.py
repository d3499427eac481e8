"""A GAN whose discriminator is cleared after its step, but keeps gradient of the generator's loss.

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
    made = generator(torch.randn(16, 2))
    real = judge(discriminator(torch.randn(16, 4)), torch.ones(16, 1))
    # + of_discriminator.zero_grad()
    (real + judge(discriminator(made.detach()), torch.zeros(16, 1))).backward()
    of_discriminator.step()
    of_discriminator.zero_grad()
    judge(discriminator(made), torch.ones(16, 1)).backward()  # here
    of_generator.step()
    of_generator.zero_grad()
