"""Train a VAE on scikit-learn's digits: python main.py [--epochs N] [--no-amp]"""

import argparse

import torch
from engine import TrainConfig, Trainer
from model import VAE
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split


def build_loaders(batch_size, generator):
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    dataset = TensorDataset(images)
    train_set, val_set = random_split(dataset, [1500, len(dataset) - 1500], generator=generator)
    train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, generator=generator)
    val_loader = DataLoader(val_set, batch_size=512)
    return train_loader, val_loader


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--lr", type=float, default=TrainConfig.lr)
    parser.add_argument("--no-amp", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    train_loader, val_loader = build_loaders(args.batch_size, generator)
    model = VAE(latent=args.latent)
    config = TrainConfig(epochs=args.epochs, lr=args.lr, amp=not args.no_amp)
    trainer = Trainer(model, train_loader, val_loader, config)
    best = trainer.fit()
    print(f"best validation ELBO: {-best:.4f} nats")


if __name__ == "__main__":
    main()
