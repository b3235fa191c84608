"""A training loop: the compiled model stays one graph, however long you train."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from compile_checks import watch


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layers(inputs)
        return output


model = Model()
compiled = torch.compile(model, backend="aot_eager")  # omit the backend to train with Inductor
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
data = TensorDataset(torch.randn(28, 8), torch.randn(28, 1))
loader = DataLoader(data, batch_size=8, shuffle=True, drop_last=True)


def train_epoch() -> None:
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(compiled(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()


with watch() as watched:
    for _ in range(2):
        train_epoch()
report = watched.report()
print(repr(report))
report.assert_clean()
