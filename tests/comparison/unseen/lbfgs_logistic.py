"""Logistic regression on the breast cancer data set, fitted by L-BFGS."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

np.random.seed(0)
torch.manual_seed(0)
L2 = 1e-3

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y)
scaler = StandardScaler().fit(X_train)
X_train = torch.from_numpy(scaler.transform(X_train)).float()
X_test = torch.from_numpy(scaler.transform(X_test)).float()
y_train = torch.from_numpy(y_train).float()
y_test = torch.from_numpy(y_test).float()

model = torch.nn.Linear(X_train.shape[1], 1)
optimizer = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=20, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    logits = model(X_train).squeeze(1)
    loss = F.binary_cross_entropy_with_logits(logits, y_train)
    loss = loss + L2 * model.weight.square().sum()
    loss.backward()
    return loss


previous = float("inf")
loss = optimizer.step(closure).item()
rounds = 1
while abs(previous - loss) > 1e-6 and rounds < 20:
    previous = loss
    loss = optimizer.step(closure).item()
    print(f"round {rounds}: loss {loss:.6f}")
    rounds += 1

with torch.no_grad():
    predicted = (model(X_test).squeeze(1) > 0).float()
print(f"test accuracy {(predicted == y_test).float().mean().item():.4f}")
