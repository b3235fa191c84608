"""FSDP2: blocks that are compiled one by one share one graph, on every rank."""

import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from compile_checks import AuditReport, watch

RANKS = 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden: Tensor = self.linear(inputs)
        return inputs + hidden.relu()


def train() -> None:
    embedding, blocks = nn.Embedding(64, 32), [Block() for _ in range(4)]
    model = nn.Sequential(embedding, *blocks)
    mesh = init_device_mesh("cpu", (RANKS,))
    for block in blocks:
        block.compile(backend="aot_eager")  # omit the backend to train with Inductor
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randint(64, (8,))).square().mean().backward()
        optimizer.step()


def run(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    with watch() as watched:
        train()
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
