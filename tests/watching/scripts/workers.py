"""A data loader with workers, which draw random numbers of their own; LBFGS evaluates its closure many times."""

import torch
from common import digits, save, seed
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self):
        self.inputs, self.labels = digits()

    def __len__(self):
        return 1024

    def __getitem__(self, index):
        return self.inputs[index] + 0.1 * torch.randn(64), self.labels[index]


if __name__ == "__main__":
    seed()
    loader = DataLoader(Noisy(), batch_size=32, shuffle=True, num_workers=2)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    polish = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    for _ in range(4):
        for batch, labels in loader:
            loss = F.cross_entropy(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def closure():
        polish.zero_grad()
        loss = F.cross_entropy(model(batch), labels)
        loss.backward()
        return loss

    for _ in range(10):
        polish.step(closure)
    save(model, optimizer, polish)
