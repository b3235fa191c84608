"""A loop like those of Lightning and Trainer: one graph for each kind of step."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from compile_checks import watch

Loader = DataLoader[tuple[Tensor, ...]]


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.Linear(16, 1))
        self.logged = {"train_loss": torch.zeros(()), "val_loss": torch.zeros(())}

    def log(self, name: str, value: Tensor) -> None:
        self.logged[name] = value.detach()

    def training_step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(self.layers(inputs), targets)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, inputs: Tensor, targets: Tensor) -> None:
        self.log("val_loss", nn.functional.l1_loss(self.layers(inputs), targets))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


class Trainer:
    def fit(self, module: Module, training: Loader, validation: Loader, epochs: int) -> None:
        training_step = torch.compile(module.training_step, backend="aot_eager")
        validation_step = torch.compile(module.validation_step, backend="aot_eager")
        optimizer = module.configure_optimizers()
        for _ in range(epochs):
            module.train()
            for batch in training:
                optimizer.zero_grad()
                training_step(*batch).backward()
                optimizer.step()
            module.eval()
            with torch.no_grad():
                for batch in validation:
                    validation_step(*batch)


def loader(rows: int) -> Loader:
    data = TensorDataset(torch.randn(rows, 8), torch.randn(rows, 1))
    return DataLoader(data, batch_size=8, drop_last=True)


with watch() as watched:
    Trainer().fit(Module(), loader(32), loader(16), epochs=3)
report = watched.report()
print(repr(report))
report.assert_clean()
