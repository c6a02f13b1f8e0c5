"""Runs that are well: each is still improving about as fast as it can."""

import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.causes.case import Case
from benchmarks.causes.second.language import causal, gpt, source
from benchmarks.causes.second.loops import loader, named, train
from benchmarks.causes.second.networks import Bag, Reader, chain, residual, separable
from benchmarks.causes.second.tables import BUCKETS, lines, patches, raw, rows, scaled
from unstuck import Cause, Training, supervised


def gru_rows(seed: int) -> Training:
    model = Reader(nn.GRU(8, 48, batch_first=True), 10)
    data = DataLoader(TensorDataset(*rows()), batch_size=50, shuffle=True, collate_fn=named("rows", "digit"))

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(model(batch["rows"]), batch["digit"])

    return train(Training(model, loss, data, optim.NAdam(model.parameters(), lr=5e-3)), 30)


def residual_cosine(seed: int) -> Training:
    inputs, targets = scaled("diabetes")
    model = residual(10, 1)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    training = Training(
        model,
        supervised(nn.HuberLoss()),
        loader(inputs, targets[:, None], size=48),
        optimizer,
        optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000),
    )
    return train(training, 20, clip=1.0)


def gpt_characters(seed: int) -> Training:
    model = gpt()
    return train(Training(model, causal, source(), optim.AdamW(model.parameters(), lr=5e-3)), 40, clip=1.0)


def nesterov_logistic(seed: int) -> Training:
    inputs, targets = scaled("cancer", torch.float64)
    model = nn.Linear(30, 1, dtype=torch.float64)
    data = loader(inputs, targets[:, None].double(), size=100)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    return train(Training(model, supervised(nn.BCEWithLogitsLoss()), data, optimizer), 4)


def adagrad_softmax(seed: int) -> Training:
    inputs, targets = scaled("wine")
    model = nn.Linear(13, 3)
    data = [(inputs, targets)]
    optimizer = optim.Adagrad(model.parameters(), lr=0.3)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), data, optimizer), 2)


def separable_patches(seed: int) -> Training:
    model = separable(3, 12, 2)
    optimizer = optim.RMSprop(model.parameters(), lr=2e-3, centered=True)
    return train(
        Training(model, supervised(nn.CrossEntropyLoss()), loader(*patches(), size=64), optimizer), 15
    )


def poisson_counts(seed: int) -> Training:
    inputs, _ = scaled("diabetes")
    model = nn.Linear(10, 1)
    data = loader(inputs, raw("diabetes")[1][:, None].float(), size=221)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    return train(Training(model, supervised(nn.PoissonNLLLoss(full=True)), data, optimizer), 10)


def adadelta_bag(seed: int) -> Training:
    model = Bag(BUCKETS, 24, 4)
    optimizer = optim.Adadelta(model.parameters(), lr=15.0)
    return train(Training(model, supervised(nn.CrossEntropyLoss()), loader(*lines(), size=64), optimizer), 60)


class Siamese(nn.Module):
    """Embeds two digits with the same net, and gives their distance."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = chain(64, 48, between=nn.SiLU)
        self.top = nn.Sequential(nn.SiLU(), nn.Linear(48, 8))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Two batches of images in, squared distances out."""
        apart = self.top(self.trunk(left.flatten(1))) - self.top(self.trunk(right.flatten(1)))
        return apart.square().sum(dim=1)


def contrastive(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Pull equal digits together, push others to a distance of at least one."""
    left, right, same = batch
    squared = model(left, right)
    far = functional.relu(1 - (squared + 1e-6).sqrt()).square()
    return torch.where(same, squared, far).mean()


def siamese_groups(seed: int) -> Training:
    model = Siamese()
    optimizer = optim.Adam(
        [
            {"params": model.trunk.parameters(), "lr": 3e-3},
            {"params": model.top.parameters(), "lr": 3e-3, "weight_decay": 1e-5},
        ]
    )
    images, labels = rows()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    near = labels.argsort(stable=True).roll(1)  # half of the pairs are of one digit
    partner = torch.where(torch.arange(len(labels)) % 2 == 0, order, near[labels.argsort().argsort()])
    data = loader(images, images[partner], labels == labels[partner], size=64)
    return train(Training(model, contrastive, data, optimizer), 15)


def several_labels(seed: int) -> Training:
    images, labels = rows()
    facts = torch.stack([labels % 2 == 0, labels > 4, (labels % 3) == 0, labels % 5 == 1], dim=1)
    model = nn.Sequential(nn.Flatten(), chain(64, 64, 4, between=nn.Mish)).bfloat16()
    data = loader(images.bfloat16(), facts.bfloat16(), size=100)
    optimizer = optim.Adamax(model.parameters(), lr=5e-3)
    return train(Training(model, supervised(nn.BCEWithLogitsLoss()), data, optimizer), 15)


CASES = (
    Case("rows-gru-nadam", Cause.HEALTHY, gru_rows, None, "rnn", "digits by rows, in dictionaries"),
    Case("table-residual-cosine", Cause.HEALTHY, residual_cosine, None, "mlp", "early in a cosine schedule"),
    Case("source-gpt", Cause.HEALTHY, gpt_characters, None, "transformer", "tied weights, dropout, clipping"),
    Case("cancer-nesterov", Cause.HEALTHY, nesterov_logistic, None, "linear", "float64, decay, early"),
    Case("wine-adagrad", Cause.HEALTHY, adagrad_softmax, None, "linear", "the whole table in one batch"),
    Case("patches-separable", Cause.HEALTHY, separable_patches, None, "conv-bn", "centred RMSprop"),
    Case("counts-poisson", Cause.HEALTHY, poisson_counts, None, "linear", "counts of a hundred and more"),
    Case("lines-adadelta", Cause.HEALTHY, adadelta_bag, None, "linear", "a bag of hashed words"),
    Case("pairs-siamese", Cause.HEALTHY, siamese_groups, None, "mlp", "contrastive, parameter groups"),
    Case("facts-bfloat16", Cause.HEALTHY, several_labels, None, "mlp", "several labels each, in bfloat16"),
)
