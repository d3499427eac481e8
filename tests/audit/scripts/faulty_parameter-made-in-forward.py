"""Layers are made in forward(), so they are random at every pass, and no optimizer holds them.

Instead: create layers and parameters once, in __init__(), before the optimizer
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MultiHead(nn.Module):
    def __init__(self, dim=16, heads=2):
        super().__init__()
        self.dim, self.heads = dim, heads
        self.qkv = nn.Linear(dim, 3 * dim)
        # + self.output, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, self.dim)
        output = nn.Linear(self.dim, self.dim)(context)  # -
        return nn.LayerNorm(self.dim)(output + x)  # -
        # + return self.norm(self.output(context) + x)


torch.manual_seed(0)
x = torch.randn(320, 5, 16)
y = (x[:, 0, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
body, head = MultiHead(), nn.Linear(16, 2)
optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-3)
for _ in range(4):
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(body(inputs).mean(1)), labels)
        loss.backward()  # here
        optimizer.step()
print(f"{loss.item():.4f}")
