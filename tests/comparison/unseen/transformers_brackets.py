"""Tiny BERT that tells balanced bracket strings from unbalanced ones."""

import random

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

PAD, CLS, OPEN, CLOSE = range(4)
MAX_LENGTH = 14


def is_balanced(tokens):
    depth = 0
    for token in tokens:
        depth += 1 if token == OPEN else -1
        if depth < 0:
            return False
    return depth == 0


def balanced(n, rng):
    """Random balanced string of n pairs."""
    if n == 0:
        return []
    k = rng.randrange(n)
    return [OPEN, *balanced(k, rng), CLOSE, *balanced(n - 1 - k, rng)]


class Brackets(Dataset):
    def __init__(self, size, seed):
        rng = random.Random(seed)
        self.items = []
        for _ in range(size):
            tokens = balanced(rng.randint(2, MAX_LENGTH // 2), rng)
            if rng.random() < 0.5:
                rng.shuffle(tokens)
            ids = [CLS, *tokens] + [PAD] * (MAX_LENGTH - len(tokens))
            self.items.append(
                {
                    "input_ids": torch.tensor(ids),
                    "attention_mask": torch.tensor([int(t != PAD) for t in ids]),
                    "labels": torch.tensor(int(is_balanced(tokens))),
                }
            )

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float(np.mean(np.argmax(logits, axis=-1) == labels))}


def main():
    set_seed(13)
    config = BertConfig(
        vocab_size=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=MAX_LENGTH + 1,
        num_labels=2,
    )
    model = BertForSequenceClassification(config)
    args = TrainingArguments(
        output_dir="brackets",
        num_train_epochs=5,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=256,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_steps=50,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=13,
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=Brackets(1600, seed=0),
        eval_dataset=Brackets(400, seed=1),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate()
    print(f"eval accuracy {metrics['eval_accuracy']:.4f}")


if __name__ == "__main__":
    main()
