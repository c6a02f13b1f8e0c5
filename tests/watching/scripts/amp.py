"""Mixed precision on the CPU: bfloat16 under autocast, and a scaler that skips a step."""

import torch
from common import digits, save, seed
from torch import nn
from torch.nn import functional as F

seed()
inputs, labels = digits()
model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=50)
for step in range(300):
    index = torch.randint(len(inputs), (32,))
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(inputs[index]), labels[index])
    if step == 100:
        loss = loss * torch.inf
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
save(model, optimizer)
