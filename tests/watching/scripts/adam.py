"""Adam on a transformer, whose attention is a fused kernel."""

import torch
from common import digits, save, seed
from torch import nn
from torch.nn import functional as F

seed()
inputs, labels = digits()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, rows):
        return self.head(self.encoder(self.embed(rows)).mean(1))


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(150):
    index = torch.randint(len(inputs), (16,))
    loss = F.cross_entropy(model(inputs[index].view(-1, 8, 8)), labels[index])
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
save(model, optimizer)
