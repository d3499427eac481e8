"""Small training runs with Lightning, Accelerate and the Transformers Trainer under every gradient mode.

`script(trainer)` is a plain user script. `by_hand(trainer, mode)` overrides the place where that
trainer clears gradients: with nothing for "never", with a division by two for "half".
"""

import textwrap
from typing import Any

import torch

TRAINERS = ("lightning", "accelerate", "transformers")
MODES = ("zero", "never", "half")

_HALVE = """\
for p in {model}.parameters():
    if p.grad is not None:
        p.grad = p.grad / 2"""

_SAVE = """
with open("losses.json", "w") as file:
    json.dump(losses, file)
"""

_LIGHTNING = """\
import json

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

losses = []


class Regression(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self.net(x), y)
        losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)
#OVERRIDE

torch.manual_seed(0)
inputs = torch.randn(128, 6)
targets = torch.sin(2 * inputs[:, :1]) + inputs[:, 1:2] * inputs[:, 2:3]
loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
trainer = L.Trainer(
    accelerator="cpu",
    devices=1,
    max_epochs=5,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Regression(), loader)
"""

_ACCELERATE = """\
import json

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
torch.manual_seed(0)
inputs = torch.randn(128, 6)
targets = torch.sin(2 * inputs[:, :1]) + inputs[:, 1:2] * inputs[:, 2:3]
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
#OVERRIDE

losses = []
for epoch in range(5):
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = F.mse_loss(model(x), y)
            losses.append(loss.item())
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
"""

_TRANSFORMERS = """\
import json

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Trainer, TrainingArguments

losses = []


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x, labels):
        prediction = self.net(x)
        loss = F.mse_loss(prediction, labels)
        losses.append(loss.item())
        return {"loss": loss, "prediction": prediction}
#OVERRIDE

torch.manual_seed(0)
inputs = torch.randn(128, 6)
targets = torch.sin(2 * inputs[:, :1]) + inputs[:, 1:2] * inputs[:, 2:3]
trainer = Trainer(
    model=Regression(),
    args=TrainingArguments(
        output_dir="output",
        num_train_epochs=5,
        per_device_train_batch_size=16,
        learning_rate=0.01,
        max_grad_norm=0.5,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    ),
    train_dataset=[{"x": x, "labels": y} for x, y in zip(inputs, targets)],
)
trainer.train()
"""

_SOURCES = {"lightning": _LIGHTNING, "accelerate": _ACCELERATE, "transformers": _TRANSFORMERS}


def script(trainer: str) -> str:
    """Source of the user script; it writes the loss of every batch to losses.json."""
    return _source(trainer, "zero") + _SAVE


def by_hand(trainer: str, mode: str) -> list[float]:
    """Loss of every batch under a mode; leaves the global random state as it was."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with torch.random.fork_rng(devices=[]):
        exec(compile(_source(trainer, mode), f"<{trainer} {mode}>", "exec"), namespace)  # noqa: S102
    losses: list[float] = namespace["losses"]
    return losses


def _source(trainer: str, mode: str) -> str:
    return _SOURCES[trainer].replace("#OVERRIDE\n", _override(trainer, mode))


def _override(trainer: str, mode: str) -> str:
    if mode == "zero":
        return ""
    if trainer == "lightning":
        head = "\ndef optimizer_zero_grad(self, epoch, batch_idx, optimizer):\n"
        body, outer = _HALVE.format(model="self"), " " * 4
    elif trainer == "transformers":
        head = "\ndef zero_grad(self, set_to_none=True):\n"
        body, outer = _HALVE.format(model="self"), " " * 4
    else:
        # as Accelerate's own zero_grad, it acts only at the end of a window
        head = "\ndef keep_grad():\n"
        body = "if accelerator.sync_gradients:\n" + textwrap.indent(_HALVE.format(model="model"), " " * 4)
        outer = ""
    if mode == "never":
        body = "pass"
    code = head + textwrap.indent(body, " " * 4) + "\n"
    if trainer == "accelerate":
        code += "\noptimizer.zero_grad = keep_grad\n"
    return textwrap.indent(code, outer)
