"""The comparison of eager and compiled code: it reports every difference, and no others."""

from __future__ import annotations

import dataclasses
import functools
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from compile_checks import AuditReport, Step, audit, audit_calls
from compile_checks._engine.compare import leaves, own_gradients


def unlike(in_eager: Any, when_compiled: Any) -> AuditReport:
    """Audits code that gives a different result when compiled."""

    def fn(x: Tensor) -> Any:
        x = x + 1
        return when_compiled(x) if torch.compiler.is_compiling() else in_eager(x)

    return audit(fn, (torch.ones(3),))


def told(report: AuditReport) -> str:
    (finding,) = report.findings
    assert finding.kind == "mismatch"
    assert finding.file == __file__
    return finding.reason


@pytest.mark.parametrize(
    ("in_eager", "when_compiled", "reason"),
    [
        (lambda x: x, lambda x: x + 1, "result differs by 1, at most 0.0002 expected"),
        (lambda x: {"a": [x]}, lambda x: {"a": [x * 2]}, "result['a'][0] differs by 2"),
        (lambda x: x > 1, lambda x: x > 2, "result differs in 3 of 3 elements"),
        (lambda x: x.int(), lambda x: x.int() + 1, "result differs in 3 of 3 elements"),
        (lambda x: x, lambda x: x.double(), "has dtype torch.float64 when compiled, torch.float32"),
        (lambda x: x, lambda x: x[:2], "has shape torch.Size([2]) when compiled"),
        (lambda x: x, lambda x: x / 0, "is infinite or NaN in different elements"),
        (lambda x: x / 0, lambda x: -x / 0, "has different infinite or NaN elements"),
        (lambda x: (x, 3), lambda x: (x, 4), "result[1] is 4 when compiled, 3 in eager mode"),
        (lambda x: (x, 3), lambda x: (x, 3.0), "result[1] is float when compiled, int in eager"),
        (lambda x: (x, 3.0), lambda x: (x, 3.1), "result[1] is 3.1 when compiled, 3.0 in eager"),
        (lambda x: (x, x), lambda x: (x,), "result[1] exists in only one of compiled and eager"),
    ],
)
def test_a_difference_is_told(in_eager: Any, when_compiled: Any, reason: str) -> None:
    assert reason in told(unlike(in_eager, when_compiled))


@pytest.mark.parametrize(
    ("in_eager", "when_compiled"),
    [
        (lambda x: x, lambda x: x + 1e-5),
        (lambda x: x * 0, lambda x: x * 1e-6),
        (lambda x: x.double(), lambda x: x.double() + 1e-10),
        (lambda x: x.bfloat16(), lambda x: (x * 1.01).bfloat16()),
        (lambda x: x / 0, lambda x: x / 0),
        (lambda x: (x, float("nan")), lambda x: (x, float("nan"))),
        (lambda x: x.to(torch.complex64), lambda x: x.to(torch.complex64) + 1e-5),
        (lambda x: x[:0], lambda x: x[:0]),
    ],
)
def test_what_lies_within_the_tolerances_is_equal(in_eager: Any, when_compiled: Any) -> None:
    report = unlike(in_eager, when_compiled)

    assert report.ok, report
    assert report.notes == ()


def test_a_difference_between_doubles_is_told_where_one_between_floats_is_not() -> None:
    told(unlike(lambda x: x.double(), lambda x: x.double() + 1e-5))


def test_an_error_of_eager_code_is_told() -> None:
    def raises(x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return x + 1
        raise ValueError("only here")

    reason = told(audit(raises, (torch.ones(3),)))

    assert reason == "call 1: eager code raises ValueError: only here; compiled code does not"


def test_what_becomes_of_the_inputs_is_compared() -> None:
    def fill(x: Tensor, cache: dict[str, Tensor]) -> Tensor:
        cache["seen"].add_(2 if torch.compiler.is_compiling() else 1)
        return x + 1

    cache = {"seen": torch.zeros(2)}

    reason = told(audit(fill, (torch.ones(3), cache)))

    assert reason == "call 1: args[1]['seen'] differs by 1, at most 0.0001 expected"
    assert cache["seen"].tolist() == [4.0, 4.0]  # the two compiled calls, without the eager ones


def test_gradients_of_inputs_and_parameters_are_compared() -> None:
    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            y = x * self.weight
            return y + (y - y.detach() if torch.compiler.is_compiling() else 0)

    module = Double()
    module.weight.grad = torch.full((3,), 5.0)
    report = audit(module, (torch.ones(3, requires_grad=True),), backward=True)

    reason = told(report)
    assert "module.weight.grad differs by 1, at most" in reason
    assert "args[0].grad differs by 1, at most" in reason
    assert audit(module, (torch.ones(3),)).ok  # the results are equal


def test_buffers_are_compared() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            # `+=` would also assign the buffer, which breaks the graph in torch 2.9.
            self.seen.add_(2 if torch.compiler.is_compiling() else 1)
            return x + 1

    assert "module.seen differs by 1" in told(audit(Counts(), (torch.ones(3),)))


def test_results_in_objects_are_compared() -> None:
    @dataclasses.dataclass
    class Output:
        hidden: Tensor

    class Holder:
        def __init__(self, kept: Tensor) -> None:
            self.kept = kept
            self.me = self

    assert "result.hidden differs" in told(unlike(Output, lambda x: Output(x + 1)))
    assert leaves(Holder(torch.ones(1)), "it") == {"it.kept": torch.ones(1)}


def test_random_numbers_are_the_same_in_both_and_the_callers_go_on() -> None:
    def noisy(x: Tensor) -> Tensor:
        return x + torch.rand(3)

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    report = audit(noisy, (torch.ones(3),))

    assert report.ok, report
    assert report.notes == ()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2][1].tolist()


def test_with_inductor_random_numbers_are_those_of_eager_mode() -> None:
    report = audit(nn.Dropout(0.5), (torch.ones(64),), backend="inductor")

    assert report.ok, report
    assert report.notes == ()


def test_code_that_never_gives_the_same_is_not_judged() -> None:
    seen: list[int] = []

    def counting(x: Tensor) -> Tensor:
        seen.append(0)
        return x + len(seen)

    report = audit(counting, (torch.ones(3),))

    assert [finding.kind for finding in report.findings] == ["recompile"]
    (note,) = report.notes
    assert note.startswith("call 1: not compared with eager mode: two eager calls with equal")


def test_inputs_that_cannot_be_copied_are_not_judged() -> None:
    report = audit(lambda x, lock: x + 1, (torch.ones(3), threading.Lock()))

    assert report.ok
    (note,) = report.notes
    assert note.startswith("not compared with eager mode: the inputs cannot be copied: ")


def test_inputs_that_are_no_leaves_are_compared() -> None:
    x = torch.ones(3, requires_grad=True) * 2

    report = audit(lambda x: x * 3, (x,), backward=False)

    assert report.ok
    assert report.notes == ()


def test_comparing_can_be_left_out() -> None:
    ran: list[int] = []

    def fn(x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            ran.append(0)
        return x + 1

    assert audit(fn, (torch.ones(3),), compare=False).ok
    assert ran == []
    assert audit(fn, (torch.ones(3),)).ok
    assert ran == [0]


def test_a_cache_that_calls_share_is_copied_once_for_all_of_them() -> None:
    def make() -> list[Step]:
        cache: list[Tensor] = []
        return [Step((torch.ones(2), cache)), Step((torch.ones(2), cache), recompiles=1)]

    def remember(x: Tensor, cache: list[Tensor]) -> Tensor:
        cache.append(x + len(cache))
        return sum(cache)

    report = audit_calls(remember, make)

    assert report.ok, report
    assert report.notes == ()


def test_eager_code_is_not_compiled_by_what_it_calls() -> None:
    inner = torch.compile(lambda x: x * 2, backend="eager")

    report = audit(lambda x: inner(x) + 1, (torch.ones(3),))

    assert report.ok, report
    assert report.graphs == 1


def test_gradients_are_copied_out_of_memory_that_is_used_anew() -> None:
    layer, x = torch.nn.Linear(2, 1, bias=False), torch.ones(1, 2, requires_grad=True)
    memory = torch.tensor([[1.0, 2.0]])
    layer.weight.grad = memory
    own_gradients(layer, Step((x,)))
    memory.zero_()
    assert layer.weight.grad.tolist() == [[1.0, 2.0]]
    assert x.grad is None


# ------------------------------------------------------------------ state that the code holds


def filled_once() -> Callable[[Tensor], Tensor]:
    state = torch.zeros(2)

    def fill(x: Tensor) -> Tensor:
        y = x + state
        state.fill_(1)
        return y

    return fill


GLOBAL = torch.zeros(2)


def counts_in_a_global(x: Tensor) -> Tensor:
    GLOBAL.add_(1)
    return helper(x)


def helper(x: Tensor) -> Tensor:
    return x + GLOBAL


def clips_gradients() -> Callable[[], Tensor]:
    layer = torch.nn.Linear(4, 4)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)

    def clip() -> Tensor:
        return torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)

    return clip


class Bound:
    def __init__(self) -> None:
        self.total = torch.zeros(2)

    def add(self, x: Tensor) -> Tensor:
        self.total += x
        return self.total * 2


class OwnIdentity(torch.nn.Module):
    """Notices that it was copied."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.weight_id = id(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if id(self.weight) != self.weight_id:
            raise RuntimeError("the weight was replaced")
        return x * self.weight


@pytest.mark.parametrize(
    "make",
    [
        filled_once,
        lambda: counts_in_a_global,
        lambda: functools.partial(Bound.add, Bound()),
        lambda: Bound().add,
        OwnIdentity,
    ],
    ids=["closure", "global", "partial", "method", "identity"],
)
def test_state_that_the_code_holds_is_restored(make: Callable[[], Callable[..., Any]]) -> None:
    report = audit_calls(make(), [((torch.ones(2),), {}), ((torch.ones(2),), {})])

    assert report.ok, report
    assert not report.notes


def test_gradients_that_the_code_holds_are_restored() -> None:
    report = audit(clips_gradients())

    breaks = {"graph-break", "nothing-compiled"}  # torch 2.9 cannot capture the call
    since_2_10 = TorchVersion(torch.__version__) >= (2, 10)
    assert {f.kind for f in report.findings} == (set() if since_2_10 else breaks), report
    assert not report.notes


@pytest.mark.parametrize("make", [filled_once, lambda: counts_in_a_global])
def test_held_state_does_not_hide_a_mismatch(make: Callable[[], Callable[..., Any]]) -> None:
    fn = make()

    def wrong(x: Tensor) -> Tensor:
        return fn(x) + (1 if torch.compiler.is_compiling() else 0)

    (finding,) = audit(wrong, (torch.ones(2),)).findings
    assert finding.kind == "mismatch"


def test_the_audit_leaves_the_state_of_the_compiled_calls() -> None:
    bound = Bound()
    audit(bound.add, (torch.ones(2),))

    assert bound.total.tolist() == [2, 2]  # each of two rounds made one call


def test_random_numbers_of_numpy_are_not_compared() -> None:
    def scale(x: Tensor) -> Tensor:
        return x * torch.from_numpy(np.random.rand(3))

    report = audit(scale, (torch.ones(3, dtype=torch.float64),))

    assert report.ok, report
    assert report.notes[0].endswith(
        "eager code draws random numbers with NumPy, compiled code with PyTorch"
    )


def test_functions_that_hold_state_of_the_same_name() -> None:
    def adding(state: Tensor) -> Callable[[Tensor], Tensor]:
        def add(x: Tensor) -> Tensor:
            state.add_(1)
            return x + state

        return add

    first, second = adding(torch.zeros(2)), adding(torch.zeros(2))
    report = audit(lambda x: first(x) + second(x), (torch.ones(2),))

    assert report.ok, report
    assert not report.notes


def test_held_tensors_that_cannot_be_written() -> None:
    expanded = torch.full((1,), torch.nan).expand(2)
    with torch.inference_mode():
        inferred = torch.full((2,), torch.nan)

    report = audit(lambda x: torch.nan_to_num(x + expanded + inferred), (torch.ones(2),))

    assert report.ok, report
