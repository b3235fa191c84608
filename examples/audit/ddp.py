"""DistributedDataParallel: every rank audits what it compiles, and rank 0 prints all reports."""

import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from compile_checks import AuditReport, watch

RANKS = 2


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(512, 512) for _ in range(4)])

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layers(inputs)
        return output.square().mean()


def train(model: Model) -> None:
    model.compile(backend="aot_eager")  # before DistributedDataParallel wraps it
    parallel = DistributedDataParallel(model, bucket_cap_mb=1)
    optimizer = torch.optim.AdamW(parallel.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        parallel(torch.randn(8, 512)).backward()
        optimizer.step()


def run(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    with watch() as watched:
        train(Model())
    report = watched.report()
    reports: list[AuditReport | None] = [None] * RANKS
    dist.all_gather_object(reports, report)
    if rank == 0:
        for number, found in enumerate(reports):
            print(f"rank {number}: {found!r}")
    dist.destroy_process_group()
    report.assert_clean()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run, args=(f"{folder}/store",), nprocs=RANKS)  # raises if a rank does
