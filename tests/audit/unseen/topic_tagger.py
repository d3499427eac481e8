"""Topic classification of bags of word ids."""
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from topic_tagger_model import TopicModel


@dataclass
class Config:
    vocab: int = 120
    topics: int = 4
    docs: int = 480
    batch_size: int = 24
    epochs: int = 7
    lr: float = 0.02
    seed: int = 1


def make_docs(cfg):
    docs = []
    span = cfg.vocab // cfg.topics
    for _ in range(cfg.docs):
        topic = random.randrange(cfg.topics)
        words = []
        for _ in range(random.randint(5, 15)):
            if random.random() < 0.5:
                words.append(topic * span + random.randrange(span))
            else:
                words.append(random.randrange(cfg.vocab))
        docs.append((words, topic))
    return docs


def collate(batch):
    flat, offsets, labels = [], [], []
    for words, topic in batch:
        offsets.append(len(flat))
        flat.extend(words)
        labels.append(topic)
    return torch.tensor(flat), torch.tensor(offsets), torch.tensor(labels)


def main(cfg=Config()):
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    loader = DataLoader(make_docs(cfg), cfg.batch_size, shuffle=True, collate_fn=collate)
    model = TopicModel(cfg.vocab, cfg.topics)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=cfg.lr)

    for epoch in range(cfg.epochs):
        model.train()
        total, correct, n = 0.0, 0, 0
        for flat, offsets, labels in loader:
            scores = model(flat, offsets)
            loss = F.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            correct += (scores.argmax(1) == labels).sum().item()
            n += len(labels)
        print(f"epoch {epoch + 1} loss {total / n:.4f} acc {correct / n:.3f}")
    print(f"final loss {total / n:.4f}")


if __name__ == "__main__":
    main()
