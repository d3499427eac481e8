"""Diabetes progression by an MLP, trained with Accelerate and gradient accumulation."""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def get_dataloaders(batch_size):
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    x_train, x_val, y_train, y_val = train_test_split(x * 20, y, test_size=0.25, random_state=0)

    def dataset(a, b):
        return TensorDataset(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32))

    train = DataLoader(dataset(x_train, y_train), batch_size=batch_size, shuffle=True)
    val = DataLoader(dataset(x_val, y_val), batch_size=64)
    return train, val


def evaluate(accelerator, model, loader):
    model.eval()
    predictions, targets = [], []
    for x, y in loader:
        with torch.no_grad():
            out = model(x).squeeze(-1)
        out, y = accelerator.gather_for_metrics((out, y))
        predictions.append(out)
        targets.append(y)
    predictions, targets = torch.cat(predictions), torch.cat(targets)
    residual = (targets - predictions).square().sum()
    return (1 - residual / (targets - targets.mean()).square().sum()).item()


def training_function(args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)
    train_loader, val_loader = get_dataloaders(args.batch_size)
    model = nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Dropout(0.2), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.05, total_iters=args.num_epochs * len(train_loader) // 2
    )
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )
    loss_fn = nn.SmoothL1Loss()

    for epoch in range(args.num_epochs):
        model.train()
        for x, y in train_loader:
            with accelerator.accumulate(model):
                loss = loss_fn(model(x).squeeze(-1), y)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        r2 = evaluate(accelerator, model, val_loader)
        if (epoch + 1) % 5 == 0:
            accelerator.print(f"epoch {epoch + 1}: R2 {r2:.4f}")

    accelerator.wait_for_everyone()
    accelerator.save(accelerator.unwrap_model(model).state_dict(), "diabetes.pt")
    accelerator.print(f"final R2 {evaluate(accelerator, model, val_loader):.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_epochs", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=42)
    training_function(parser.parse_args())


if __name__ == "__main__":
    main()
