"""Gradients of four micro-batches are added up; two optimizers share a backward pass."""

import torch
from common import digits, save, seed
from torch import nn
from torch.nn import functional as F

seed()
inputs, labels = digits()
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))
first = torch.optim.RMSprop(model[0].parameters(), lr=1e-3)
second = torch.optim.Adagrad(model[3].parameters(), lr=1e-2)
for _ in range(300):
    for _ in range(4):
        index = torch.randint(len(inputs), (8,))
        (F.cross_entropy(model(inputs[index]), labels[index]) / 4).backward()
    first.step()
    second.step()
    first.zero_grad()
    second.zero_grad()
save(model, first, second)
