"""Gradient accumulation: the number of the batch stays outside the graph."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from compile_checks import watch

ACCUMULATE = 4
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters())
data = TensorDataset(torch.randn(80, 8), torch.randn(80, 1))
loader = DataLoader(data, batch_size=8)


@torch.compile(backend="aot_eager")  # omit the backend to train with Inductor
def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.mse_loss(model(inputs), targets)


def train_epoch() -> None:
    for number, (inputs, targets) in enumerate(loader):
        first = number - number % ACCUMULATE
        batches = min(ACCUMULATE, len(loader) - first)  # the last group may be smaller
        loss = loss_of(inputs, targets) / batches
        loss.backward()
        if number + 1 == first + batches:
            optimizer.step()
            optimizer.zero_grad()


with watch() as watched:
    train_epoch()
report = watched.report()
print(repr(report))
report.assert_clean()
