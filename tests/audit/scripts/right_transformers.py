"""The Transformers Trainer with accumulation."""

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

torch.manual_seed(0)
rows = [{"inputs": each, "labels": each.sum(0, keepdim=True)} for each in torch.randn(64, 4)]


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, inputs, labels):
        outputs = self.model(inputs)
        return {"loss": nn.functional.mse_loss(outputs, labels), "logits": outputs}


quiet = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
training = {"num_train_epochs": 4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "use_cpu": True}
Trainer(model=Line(), args=TrainingArguments(output_dir="out", **training, **quiet), train_dataset=rows).train()
