"""Transformer on a reversal task. Accumulates micro-batches; the last window of
an epoch may be shorter and is averaged over its own length."""
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from copy_task_model import Reverser

CONFIG = dict(vocab=12, length=8, n=280, micro=20, accum=4, epochs=8, lr=1e-2, warmup=8, clip=1.0, seed=2)


def windows(loader, size):
    """Groups the batches of a loader into lists of at most `size`."""
    window = []
    for batch in loader:
        window.append(batch)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def warmup(steps):
    return lambda k: min(1.0, (k + 1) / steps)


class Trainer:
    def __init__(self, model, cfg):
        self.model, self.cfg = model, cfg
        decay = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() <= 1]
        self.params = decay + rest
        self.opt = torch.optim.AdamW(
            [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=cfg["lr"]
        )
        self.sched = torch.optim.lr_scheduler.LambdaLR(self.opt, warmup(cfg["warmup"]))

    def update(self, window):
        losses = []
        for x, y in window:
            logits = self.model(x)
            loss = F.cross_entropy(logits.transpose(1, 2), y) / len(window)
            loss.backward()
            losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(self.params, self.cfg["clip"])
        self.opt.step()
        self.sched.step()
        self.opt.zero_grad()
        return sum(losses)

    def fit(self, loader):
        for epoch in range(self.cfg["epochs"]):
            self.model.train()
            losses = [self.update(w) for w in windows(loader, self.cfg["accum"])]
            mean = sum(losses) / len(losses)
            print(f"epoch {epoch + 1}: loss {mean:.4f} lr {self.sched.get_last_lr()[0]:.5f}")
        return mean


def main():
    torch.manual_seed(CONFIG["seed"])
    torch.set_num_threads(1)
    x = torch.randint(0, CONFIG["vocab"], (CONFIG["n"], CONFIG["length"]))
    loader = DataLoader(TensorDataset(x, x.flip(1)), CONFIG["micro"], shuffle=True)  # 14 batches
    trainer = Trainer(Reverser(CONFIG["vocab"], CONFIG["length"]), CONFIG)
    print("final loss", trainer.fit(loader))


if __name__ == "__main__":
    main()
