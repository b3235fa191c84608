"""Code that compiles parts of itself is judged on what those parts do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from compile_checks import audit
from compile_checks._engine.regions import compiled_regions

X = torch.ones(2, 4)
SINCE_2_15 = TorchVersion(torch.__version__) >= (2, 15)


class Block(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.linear, self.index = nn.Linear(4, 4), index

    def forward(self, x: Tensor, cache: list[Tensor]) -> Tensor:
        return self.linear(x) + cache[self.index]


class Regional(nn.Module):
    """Each block reads its own index, so each is compiled anew."""

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(index) for index in range(blocks))
        for block in self.blocks:
            block.compile(backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        cache = [torch.ones(4)] * len(self.blocks)
        for block in self.blocks:
            x = block(x, cache)
        return x


class Decorated(nn.Module):
    @torch.compile(backend="eager")
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Decorated()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * 2


class Method(nn.Module):
    @torch.compile(backend="eager")
    def attend(self, x: Tensor) -> Tensor:
        return x.sin()

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x)


def test_blocks_that_compile_themselves() -> None:
    report = audit(Regional(), (X,))

    assert (report.graphs, len(report.recompiles)) == (4, 3)
    assert {finding.kind for finding in report.findings} == {"recompile"}
    (note,) = report.notes
    assert note == (
        "audited without `torch.compile` around it, because it compiles parts of itself: "
        "blocks.0, blocks.1, blocks.2, blocks.3. The backend and the mode are those of the parts"
    )


@pytest.mark.parametrize(
    ("fn", "names"),
    [
        (Holder(), ["inner"]),
        (nn.Sequential(Method()), ["0"]),
        (nn.Linear(4, 4), []),
        (torch.sin, []),
    ],
)
def test_what_compiles_itself(fn: Callable[..., Any], names: list[str]) -> None:
    assert compiled_regions(fn) == names
    report = audit(fn, (X,))
    assert (report.ok, report.graphs, len(report.notes)) == (True, 1, len(names[:1]))


class Mixed(nn.Module):
    """Calls `compile` on its parts, some of which Dynamo never compiles."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        for part in self.parts.values():
            part.compile(backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts.values():
            x = part(x)
        return x


class Doubles(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def with_idle_part() -> nn.Module:
    """Returns a module that never calls one of its parts."""
    model = Mixed(block=Doubles())
    model.idle = nn.Linear(4, 4)
    model.idle.compile(backend="eager")
    return model


def test_a_part_that_is_never_called_is_never_compiled() -> None:
    (_, note) = audit(with_idle_part(), (X,)).notes
    assert note.startswith("`.compile()` had no effect on idle: ")


class Skipped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            torch._dynamo.graph_break()
        return x


@pytest.mark.parametrize(
    ("part", "compiled"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), SINCE_2_15),
        (nn.Linear(4, 4), SINCE_2_15),
        (nn.Sequential(Doubles()), True),
        (Doubles(), True),
        (Skipped(), True),  # this is a finding
    ],
)
def test_a_note_names_parts_on_which_compile_has_no_effect(part: nn.Module, compiled: bool) -> None:
    notes = audit(Mixed(part=part, other=Skipped(), last=Doubles()), (X,)).notes

    said = [note for note in notes if note.startswith("`.compile()` had no effect on ")]
    assert [note.split()[5] for note in said] == ([] if compiled else ["parts.part:"])


def test_parts_that_another_part_inlines_are_compiled() -> None:
    inner = nn.Linear(4, 4)
    inner.compile(backend="eager")

    report = audit(Mixed(outer=Calls(inner)), (X,))

    assert (report.ok, report.graphs, len(report.notes)) == (True, 1, 1)


def test_a_region_unlike_eager_code_is_found() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + (2 if torch.compiler.is_compiling() else 1)

    model = nn.Sequential(Wrong(), nn.ReLU())
    model[0].compile(backend="eager")

    (finding,) = audit(model, (X,)).findings
    assert finding.kind == "mismatch"


class Disabled(nn.Module):
    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Calls(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * 2


@pytest.mark.parametrize(
    "part", [Disabled, lambda: torch.compiler.disable(nn.Linear(4, 4))], ids=["method", "module"]
)
def test_a_disabled_part_does_not_compile_itself(part: Callable[[], nn.Module]) -> None:
    model = Calls(part())
    assert compiled_regions(model) == []
    report = audit(model, (X,))
    assert [finding.kind for finding in report.findings] == ["graph-break"]
    assert report.notes == ()
