"""Digits with a residual MLP in Lightning."""

from argparse import ArgumentParser

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64, val_share=0.2):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage):
        digits = load_digits()
        images = torch.tensor(digits.data, dtype=torch.float32) / 16
        dataset = TensorDataset(images, torch.tensor(digits.target))
        n_val = int(len(dataset) * self.hparams.val_share)
        self.train_set, self.val_set = random_split(
            dataset, [len(dataset) - n_val, n_val], generator=torch.Generator().manual_seed(0)
        )

    def train_dataloader(self):
        return DataLoader(self.train_set, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 256)


class ResidualBlock(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
        )

    def forward(self, x):
        return x + self.net(x)


class LitClassifier(L.LightningModule):
    def __init__(self, width=96, depth=2, dropout=0.1, lr=1e-3, weight_decay=1e-2):
        super().__init__()
        self.save_hyperparameters()
        blocks = [ResidualBlock(width, dropout) for _ in range(depth)]
        self.model = nn.Sequential(nn.Linear(64, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    parser = ArgumentParser()
    parser.add_argument("--max_epochs", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=2024)
    args = parser.parse_args()

    L.seed_everything(args.seed)
    data = DigitsDataModule(batch_size=args.batch_size)
    model = LitClassifier(lr=args.lr)
    checkpoint = ModelCheckpoint(monitor="val_acc", mode="max", filename="best-{epoch}")
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=args.max_epochs,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        enable_progress_bar=False,
        logger=CSVLogger("logs", name="digits"),
        callbacks=[checkpoint, EarlyStopping("val_loss", patience=5), LearningRateMonitor("epoch")],
    )
    trainer.fit(model, datamodule=data)
    metrics = trainer.validate(model, datamodule=data, ckpt_path="best", verbose=False)[0]
    print(f"best val_acc {metrics['val_acc']:.4f}")


if __name__ == "__main__":
    main()
