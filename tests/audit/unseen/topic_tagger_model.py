import torch.nn as nn


class TopicModel(nn.Module):
    def __init__(self, vocab, topics, dim=16, hidden=32):
        super().__init__()
        self.bag = nn.EmbeddingBag(vocab, dim, mode="mean")
        self.dropout = nn.Dropout(0.1)
        self.hidden = hidden
        self.out = nn.Linear(hidden, topics)

    def forward(self, flat, offsets):
        h = self.dropout(self.bag(flat, offsets))
        # the input width depends on the embedding, so build it here
        project = nn.Linear(h.shape[1], self.hidden)
        return self.out(project(h).relu())
