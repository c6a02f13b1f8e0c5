"""A plain loop: convolutions, batch norm, dropout, a schedule, clipping."""

import torch
from common import digits, save, seed
from torch import nn
from torch.nn import functional as F

seed()
images, labels = digits()
model = nn.Sequential(
    nn.Unflatten(1, (1, 8)),
    nn.Conv2d(1, 8, 3, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.Flatten(),
    nn.Dropout(0.2),
    nn.Linear(512, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
for _ in range(400):
    index = torch.randint(len(images), (32,))
    loss = F.cross_entropy(model(images[index].view(-1, 8, 8)), labels[index])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
save(model, optimizer)
