"""Training and evaluation of the VAE in mixed precision."""

from dataclasses import dataclass

import torch
from model import elbo_loss


@dataclass
class TrainConfig:
    epochs: int = 12
    lr: float = 2e-3
    weight_decay: float = 1e-4
    max_norm: float = 5.0
    warmup_epochs: int = 4  # of the KL term
    amp: bool = True
    checkpoint: str = "vae_best.pt"


class Trainer:
    def __init__(self, model, train_loader, val_loader, config: TrainConfig):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.config = config
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, gamma=0.9)
        self.scaler = torch.amp.GradScaler("cpu", enabled=config.amp)
        self.best = float("inf")
        self.history = []

    def autocast(self):
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.amp)

    def beta(self, epoch):
        return min(1.0, (epoch + 1) / self.config.warmup_epochs)

    def clear_gradients(self):
        for param in self.model.parameters():
            param.grad = None

    def train_step(self, x, beta):
        self.clear_gradients()
        with self.autocast():
            logits, mu, logvar = self.model(x)
            loss = elbo_loss(logits, x, mu, logvar, beta)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()

    def train_epoch(self, epoch):
        self.model.train()
        losses = [self.train_step(x, self.beta(epoch)) for (x,) in self.train_loader]
        self.scheduler.step()
        return sum(losses) / len(losses)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        total, n = 0.0, 0
        for (x,) in self.val_loader:
            with self.autocast():
                logits, mu, logvar = self.model(x)
                loss = elbo_loss(logits, x, mu, logvar)
            total += loss.item() * len(x)
            n += len(x)
        return total / n

    def save(self):
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "best": self.best,
            },
            self.config.checkpoint,
        )

    def load_best(self):
        self.model.load_state_dict(torch.load(self.config.checkpoint)["model"])

    def fit(self):
        for epoch in range(self.config.epochs):
            train_loss = self.train_epoch(epoch)
            val_loss = self.validate()
            self.history.append((train_loss, val_loss))
            print(f"epoch {epoch:2d}  train {train_loss:.3f}  val {val_loss:.3f}  scale {self.scaler.get_scale():g}")
            if val_loss < self.best:
                self.best = val_loss
                self.save()
        self.load_best()
        return self.validate()
