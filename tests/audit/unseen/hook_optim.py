"""Saves memory by stepping every parameter as soon as its gradient is there
(see the tutorial on optimizer steps in the backward pass)."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class InBackward:
    def __init__(self, model, cls, **kwargs):
        self.optimizers = {p: cls([p], **kwargs) for p in model.parameters()}
        for p in self.optimizers:
            p.register_post_accumulate_grad_hook(self._hook)

    def _hook(self, p):
        opt = self.optimizers[p]
        opt.step()
        opt.zero_grad()

    def set_lr(self, lr):
        for opt in self.optimizers.values():
            for group in opt.param_groups:
                group["lr"] = lr


class ConvAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.mid = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1)

    def forward(self, x):
        h = F.relu(self.down(x))
        h = F.relu(self.mid(h))
        return self.up(h)


def squares(n, size=12):
    img = torch.zeros(n, 1, size, size)
    pos = torch.randint(0, size - 4, (n, 2))
    for i, (r, c) in enumerate(pos.tolist()):
        img[i, 0, r:r + 4, c:c + 4] = 1.0
    return img


def main(steps=100, base_lr=4e-3):
    torch.manual_seed(19)
    torch.set_num_threads(1)
    model = ConvAE()
    engine = InBackward(model, torch.optim.Adam, lr=base_lr)
    for step in range(steps):
        if step == int(steps * 0.7):
            engine.set_lr(base_lr / 4)
        x = squares(24)
        loss = F.mse_loss(model(x), x)
        loss.backward()  # the weights move here
        if step % 25 == 24:
            print(f"step {step + 1}: {loss.item():.5f}")
    print("final loss", loss.item())


if __name__ == "__main__":
    main()
