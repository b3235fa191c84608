"""Recompiles of one cause are one finding, and its advice removes the recompiles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from compile_checks import AuditReport, Finding, audit, audit_calls, watch

X = torch.ones(3)


def times(x: Tensor, n: Any) -> Tensor:
    return x * n


def first(parts: list[Tensor], n: int) -> Tensor:
    return parts[n] + 1


def item(part: Tensor) -> Tensor:
    return part + 1


class Layer(nn.Module):
    def __init__(self, scale: float | Tensor) -> None:
        super().__init__()
        if isinstance(scale, Tensor):
            self.register_buffer("scale", scale, persistent=False)
        else:
            self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Layers(nn.Module):
    """Layers that are compiled one by one, because a graph ends after each."""

    def __init__(self, scales: list[Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(Layer, scales))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            torch._dynamo.graph_break()
            x = layer(x)
        return x


def sizes(*shapes: tuple[int, ...], mark: Callable[..., Any] | None = None) -> list[Any]:
    tensors = [torch.ones(shape) for shape in shapes]
    if mark is not None:
        for tensor in tensors:
            mark(tensor, 0)
    return [(times, (tensor, 2)) for tensor in tensors]


Calls = list[tuple[Callable[..., Any], tuple[Any, ...]]]
SAME = torch.sin

ADVISED: dict[str, tuple[str, Callable[[], Calls], Callable[[], Calls]]] = {
    "a size": (
        (
            "before the call: torch._dynamo.mark_dynamic(x, 0), and so for each tensor that has "
            "this size; or torch.compile(..., dynamic=True)"
        ),
        lambda: sizes((3,), (4,)),
        lambda: sizes((3,), (4,), mark=torch._dynamo.mark_dynamic),
    ),
    "a size of 1": (
        (
            "before the call: torch._dynamo.decorators.mark_unbacked(x, 0), and so for each tensor "
            "that has this size, because a size of 1 is compiled in as a constant even if it is "
            "marked dynamic"
        ),
        lambda: sizes((3, 2), (1, 2)),
        lambda: sizes((3, 2), (1, 2), mark=torch._dynamo.decorators.mark_unbacked),
    ),
    "a stride": (
        "give it one memory layout in every call: x = x.contiguous()",
        lambda: [(times, (torch.ones(3, 4), 2)), (times, (torch.ones(4, 3).t(), 2))],
        lambda: [(times, (torch.ones(3, 4), 2)), (times, (torch.ones(4, 3).t().contiguous(), 2))],
    ),
    "a dtype": (
        "convert it to one dtype before the call: x = x.to(torch.float32)",
        lambda: [(times, (X, 2)), (times, (X.double(), 2))],
        lambda: [(times, (X, 2)), (times, (X.double().to(torch.float32), 2))],
    ),
    "a gradient": (
        (
            "give it the same requires_grad in every call: x.requires_grad_(), "
            "or x = x.detach() where no gradient is needed"
        ),
        lambda: [(times, (X, 2)), (times, (X.clone().requires_grad_(), 2))],
        lambda: [(times, (X, 2)), (times, (X.clone().requires_grad_().detach(), 2))],
    ),
    "an int": (
        (
            "torch.compile(..., dynamic=True); or pass a tensor instead of the number: "
            "n = torch.tensor(n)"
        ),
        lambda: [(times, (X, 2)), (times, (X, 3))],
        lambda: [(times, (X, torch.tensor(2))), (times, (X, torch.tensor(3)))],
    ),
    "an index": (
        (
            "a list is indexed by a constant: pass the item itself, or stack the items in a tensor "
            "and make n a tensor"
        ),
        lambda: [(first, ([X, X], 0)), (first, ([X, X], 1))],
        lambda: [(item, (X,)), (item, (X,))],
    ),
    "an object": (
        "create n once, outside the compiled function, and pass the same object",
        lambda: [(apply, (X, torch.sin)), (apply, (X, torch.cos))],
        lambda: [(apply, (X, SAME)), (apply, (X, SAME))],
    ),
}


def apply(x: Tensor, n: Callable[[Tensor], Tensor]) -> Tensor:
    return n(x)


def report_of(calls: Calls) -> AuditReport:
    return audit_calls(calls[0][0], [(args, {}) for _, args in calls])


@pytest.mark.parametrize("name", ADVISED)
def test_the_advice_removes_the_recompile(name: str) -> None:
    advice, before, after = ADVISED[name]
    (finding,) = report_of(before()).findings
    assert finding.kind == "recompile"
    assert finding.hint.splitlines()[0] == advice
    assert finding.hint.splitlines()[-1] == "call 2 had 1 recompile, at most 0 expected"
    report_of(after()).assert_clean()


def recompiles(report: AuditReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind.startswith("recompile")]


@pytest.mark.parametrize("limit", [8, 3])
def test_layers_that_share_a_cause_are_one_finding(limit: int) -> None:
    with torch._dynamo.config.patch(recompile_limit=limit):
        (finding,) = recompiles(audit(Layers([2, 3, 4, 5, 6]), (X,)))
        assert recompiles(audit(Layers([*torch.arange(5.0)]), (X,))) == []
    assert finding.kind == ("recompile" if limit == 8 else "recompile-limit")
    assert finding.count == (4 if limit == 8 else 3)
    assert (finding.file, finding.source) == (__file__, "return x * self.scale")
    assert finding.argument == "self.scale"
    advice, pytorchs, budget = finding.hint.splitlines()
    assert advice.endswith("with register_buffer: self.scale = torch.tensor(self.scale)")
    assert "allow_unspec_int_on_nn_module" in pytorchs
    assert budget.startswith("call 1 had")
    assert "0/" not in str(finding)
    assert "self.scale == 3" in finding.reason


def test_different_causes_are_different_findings() -> None:
    calls = [(torch.ones(3), 2), (torch.ones(4), 2), (torch.ones(4), 3)]
    report = audit_calls(times, [(args, {}) for args in calls], dynamic=False)
    assert [(f.argument, f.category, f.count) for f in report.findings] == [
        ("x", "size", 1),
        ("n", "int", 1),
    ]
    dimensions = [(torch.ones(3, 4), 2), (torch.ones(5, 4), 2), (torch.ones(5, 6), 2)]
    report = audit_calls(times, [(args, {}) for args in dimensions], dynamic=False)
    for finding, dimension in zip(report.findings, (0, 1), strict=True):
        assert f"mark_dynamic(x, {dimension})," in finding.hint


def test_a_cause_in_several_calls_is_one_finding() -> None:
    calls = [((torch.ones(3), n), {}) for n in (2.5, 3.5, 4.5)]
    (finding,) = audit_calls(times, calls, dynamic=False).findings
    assert finding.count == 2
    assert finding.hint.splitlines()[1:] == [
        "call 2 had 1 recompile, at most 0 expected",
        "call 3 had 1 recompile, at most 0 expected",
    ]


def add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


def branch(x: Tensor, n: float = 1.0) -> Tensor:
    if x.shape[0] > 5:
        return x + n
    return x - n


def on_number(x: Tensor, n: int) -> Tensor:
    if n > 2:
        return x + 1
    return x - 1


def loop(x: Tensor, n: int) -> Tensor:
    for _ in range(n):
        x = x + 1
    return x


def optional(x: Tensor, y: Tensor | None) -> Tensor:
    return x + 1 if y is None else x + y


@torch.no_grad()
def without_gradients(x: Tensor) -> Tensor:
    return x * 2


def from_numpy(x: Tensor, array: Any) -> Tensor:
    return x * torch.from_numpy(array).sum()


COUNT = 2


def counted(x: Tensor) -> Tensor:
    global COUNT
    COUNT += 1
    return x * COUNT  # torch 2.15 has no guard on a number that the graph does not need


def doubled(x: Tensor, options: set[str]) -> Tensor:
    return x * 2 if "double" in options else x + 1


ONES = {n: torch.ones(n) for n in (3, 4, 7)}

SHAPED: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]], str]] = {
    "a branch on a size": (branch, [(ONES[3],), (ONES[4],), (ONES[7],)], "the line branches on x"),
    "a branch on a number": (on_number, [(X, 2), (X, 3)], "the line branches on n"),
    "a loop": (loop, [(X, 2), (X, 3)], "the loop is unrolled, a graph for each n"),
    "an optional tensor": (optional, [(X, None), (X, X)], "pass y in every call or in none"),
    "one tensor twice": (add, [(X, ONES[3]), (X, X)], "pass different tensors as x"),
    "an array": (
        from_numpy,
        [(X, numpy.ones(n)) for n in (3, 4)],
        "torch.compile(..., dynamic=True); or pass a tensor: torch.from_numpy(array)",
    ),
    "a global": (counted, [(X,), (X,)], "pass a tensor instead of the number: COUNT = "),
    "a set": (doubled, [(X, set()), (X, {"double"})], "keep options the same in every call"),
    "a partial": (
        apply,
        [(X, functools.partial(torch.mul, other=n)) for n in (2.5, 3.5)],
        "pass the same function as n in every call, or one that holds a tensor",
    ),
    "a function": (apply, [(X, lambda x: x.sin()), (X, lambda x: x.cos())], "create n once"),
}


@pytest.mark.parametrize("name", SHAPED)
def test_the_advice_fits_the_line_and_the_guard(name: str) -> None:
    fn, calls, advice = SHAPED[name]
    report = audit_calls(fn, [(args, {}) for args in calls])
    assert any(f.hint.startswith(advice) for f in report.findings), report.findings


def test_all_tensors_of_a_size_are_to_be_marked() -> None:
    sizes = [(torch.ones(n), torch.ones(n)) for n in (3, 4)]
    (finding,) = audit_calls(add, [(args, {}) for args in sizes]).findings
    assert "each tensor that has this size" in finding.hint
    for args in sizes:
        for tensor in args:
            torch._dynamo.mark_dynamic(tensor, 0)
    audit_calls(add, [(args, {}) for args in sizes]).assert_clean()


def test_a_recompile_in_a_wrapper_of_pytorch_is_yours() -> None:
    calls = [((ONES[n],), {}) for n in (3, 4)]
    (finding,) = audit_calls(without_gradients, calls, dynamic=False).findings
    assert (finding.file, finding.owner) == ("", "")
    with watch() as watched:
        compiled = torch.compile(without_gradients, backend="eager", dynamic=False)
        for n in (3, 4):
            compiled(ONES[n])
    (finding,) = watched.report().findings
    assert (finding.file, finding.source, finding.owner) == (__file__, "compiled(ONES[n])", "yours")


class Logger:
    """Keeps what its steps log in a dict that starts empty."""

    def __init__(self) -> None:
        self.logged: dict[str, Tensor] = {}

    def log(self, name: str, value: Tensor) -> None:
        self.logged[name] = value.detach()

    def train(self, x: Tensor) -> None:
        self.log("train", x * 2)

    def validate(self, x: Tensor) -> None:
        self.log("validate", x * 3)


@pytest.mark.parametrize("names", [(), ("train", "validate")])
def test_a_container_that_grows_in_a_shared_helper_is_one_finding(names: tuple[str, ...]) -> None:
    logger = Logger()
    logger.logged.update(dict.fromkeys(names, X))
    train, validate = (
        torch.compile(step, backend="eager") for step in (logger.train, logger.validate)
    )
    with watch() as watched:
        for step in (train, train, validate, validate, train):
            step(X)
    findings = watched.report().findings
    if names:  # as advised
        assert findings == ()
        return
    (finding,) = findings
    assert (finding.source, finding.count) == ("self.logged[name] = value.detach()", 3)
    assert (finding.argument, finding.category) == ("self.logged", "size")
    assert finding.hint.startswith("keep self.logged at one length: add all of its items before")


@pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_a_learning_rate_is_to_be_a_tensor(rate: float | Tensor) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=rate)
    step = torch.compile(optimizer.step, backend="eager")
    with watch() as watched:
        for _ in range(2):
            weight.grad = torch.ones(3)
            step()
            optimizer.param_groups[0]["lr"] *= 0.5
    found = recompiles(watched.report())
    if isinstance(rate, Tensor):  # as advised
        assert found == []
    else:
        advice = "pass a tensor to the optimizer: lr=torch.tensor(...)"
        assert [finding.hint.splitlines()[0] for finding in found] == [advice]


def two_flags(x: Tensor, a: bool, b: bool) -> Tensor:
    x = x + 1 if a else x - 1
    return x * 2 if b else x * 3


def test_a_second_cause_is_found_behind_one_that_changes_back() -> None:
    calls = [((X, a, b), {}) for a, b in ((True, True), (False, True), (True, False))]
    report = audit_calls(two_flags, calls)
    assert [(f.argument, f.count) for f in report.findings] == [("a", 1), ("b", 1)]
