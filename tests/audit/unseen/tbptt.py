"""Truncated BPTT: predict the next value of a chaotic series, the state lives on between chunks."""
import torch
import torch.nn as nn


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, num_layers=1)
        self.read = nn.Linear(hidden, 1)

    def forward(self, x, state=None):
        h, state = self.lstm(x, state)
        return self.read(h), state


def mackey_glass(n, tau=17, seed=1.2):
    hist = [seed] * (tau + 1)
    for _ in range(n + 100):
        x, xd = hist[-1], hist[-1 - tau]
        hist.append(x + 0.2 * xd / (1 + xd ** 10) - 0.1 * x)
    return torch.tensor(hist[-n:])


def detach(state):
    return tuple(s.detach() for s in state)


def train_pass(model, series, optimizer, chunk):
    state = None
    total_loss = torch.zeros(())
    n_chunks = 0
    for start in range(0, series.shape[0] - 1, chunk):
        x = series[start:start + chunk]
        y = series[start + 1:start + chunk + 1]
        x = x[:len(y)]
        out, state = model(x, state)
        state = detach(state)
        loss = (out - y).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        total_loss += loss.detach()
        n_chunks += 1
    return (total_loss / n_chunks).item()


if __name__ == "__main__":
    torch.manual_seed(6)
    torch.set_num_threads(1)
    raw = mackey_glass(2004)
    raw = (raw - raw.mean()) / raw.std()
    series = raw.view(4, 501).t().unsqueeze(-1).contiguous()  # time x batch x 1
    model = Forecaster()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.95)
    for epoch in range(5):
        loss = train_pass(model, series, optimizer, chunk=25)
        print(f"pass {epoch}: {loss:.5f}")
    print("final loss", loss)
