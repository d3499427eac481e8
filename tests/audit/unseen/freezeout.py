"""FreezeOut-like schedule: lower blocks are frozen one after the other while training goes on."""
import torch
import torch.nn as nn
import torch.nn.functional as F

SCHEDULE = {40: 0, 80: 1}  # step -> block to freeze
TOTAL = 120


def rings(n):
    """Three concentric rings in 6 dimensions."""
    y = torch.randint(0, 3, (n,))
    d = F.normalize(torch.randn(n, 6), dim=1)
    r = 1.0 + y.float() + 0.2 * torch.randn(n)
    return d * r[:, None], y


class Block(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.fc = nn.Linear(i, o)
        self.norm = nn.LayerNorm(o)

    def forward(self, x):
        return F.gelu(self.norm(self.fc(x)))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(6, 32), Block(32, 32), Block(32, 32)])
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        for b in self.blocks:
            x = b(x)
        return self.head(x)

    def freeze_block(self, k):
        for p in self.blocks[k].parameters():
            p.requires_grad = False
            p.grad = None


def checksum(module):
    return sum(p.double().abs().sum().item() for p in module.parameters())


def main():
    torch.manual_seed(31)
    net = Stack()
    # one optimizer for the whole run, so that the state of the live blocks is kept
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    frozen = {}
    for step in range(TOTAL):
        if step in SCHEDULE:
            k = SCHEDULE[step]
            net.freeze_block(k)
            frozen[k] = checksum(net.blocks[k])
            print(f"step {step}: block {k} frozen")
        x, y = rings(64)
        loss = F.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 20 == 19:
            print(f"step {step + 1} loss {loss.item():.4f}")
    for k, before in frozen.items():
        assert checksum(net.blocks[k]) == before
    print("final loss", loss.item())


if __name__ == "__main__":
    main()
