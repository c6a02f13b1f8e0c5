"""Momentum, weight decay, two parameter groups; the loss is the sum of two backward passes."""

import torch
from common import digits, save, seed
from torch import nn
from torch.nn import functional as F

seed()
inputs, labels = digits()
model = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 10))
groups = [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[2].parameters()}]
optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)
for _ in range(600):
    index = torch.randint(len(inputs), (16,))
    optimizer.zero_grad()
    F.cross_entropy(model(inputs[index]), labels[index]).backward()
    (1e-3 * sum(weight.abs().sum() for weight in model.parameters())).backward()
    optimizer.step()
save(model, optimizer)
