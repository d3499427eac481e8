"""A pretrained encoder and a new head are in eval mode from loading on; no one calls train().

Instead: model.train() before training, and again after each evaluation
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, tokens):
        return self.lstm(self.embedding(tokens))[0][:, -1]


def load(module, state=None):
    if state:
        module.load_state_dict(state)
    return module.eval()


torch.manual_seed(0)
tokens = torch.randint(0, 20, (64, 5))
loader = DataLoader(TensorDataset(tokens, (tokens[:, 0] > 9).long()), batch_size=16, shuffle=True)
encoder = load(Encoder(), Encoder().state_dict())
head = load(nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 2)))
optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=0.01)
# + encoder.train()
# + head.train()
for _epoch in range(6):
    for batch, labels in loader:
        nn.functional.cross_entropy(head(encoder(batch)), labels).backward()
        optimizer.step()  # here
        optimizer.zero_grad()
