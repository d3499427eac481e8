"""Robust regression: batches with a huge gradient are thrown away instead of used."""
import logging
import sys

import torch
import torch.nn as nn

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
log = logging.getLogger("train")


class Sensor:
    """Stream of batches; once in a while a sensor glitches."""

    def __init__(self, n, batch, p_glitch=0.08):
        self.n, self.batch, self.p = n, batch, p_glitch
        self.w = torch.randn(10, 1)

    def __iter__(self):
        for _ in range(self.n):
            x = torch.randn(self.batch, 10)
            y = torch.relu(x @ self.w) + 0.05 * torch.randn(self.batch, 1)
            if torch.rand(()) < self.p:
                x = x * 1e3
            yield x, y


class RunningNorm:
    def __init__(self, factor):
        self.factor, self.mean = factor, None

    def is_outlier(self, norm):
        if not torch.isfinite(norm):
            return True
        if self.mean is None:
            self.mean = norm.item()
            return False
        if norm > self.factor * self.mean:
            return True
        self.mean = 0.95 * self.mean + 0.05 * norm.item()
        return False


def train(model, stream, optimizer):
    guard = RunningNorm(factor=20)
    smooth, skipped = None, 0
    for step, (x, y) in enumerate(stream):
        loss = nn.functional.huber_loss(model(x), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        if guard.is_outlier(norm):
            skipped += 1
            optimizer.zero_grad()
            continue
        optimizer.step()
        optimizer.zero_grad()
        smooth = loss.item() if smooth is None else 0.97 * smooth + 0.03 * loss.item()
        if step % 100 == 0:
            log.info("step %4d loss %.4f skipped %d", step, smooth, skipped)
    return smooth, skipped


if __name__ == "__main__":
    torch.manual_seed(13)
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    final, skipped = train(net, Sensor(500, 32), opt)
    log.info("skipped %d of 500 batches", skipped)
    log.info("final loss %.4f", final)
