"""Calls with budgets of recompiles. Every recompile says what changed, and in which argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compile_checks import Recompile, Step, audit_calls, watch
from compile_checks._engine.guards import FailedGuard, cause, read_guard
from compile_checks._engine.places import guarded_line

NUMBER = 1


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.scale = 1

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale


def scale(x: Tensor, n: Any) -> Tensor:
    return x * n


def held(x: Tensor, holder: Holder) -> Tensor:
    return x * holder.value


def called(x: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    return fn(x)


def optional(x: Tensor, y: Tensor | None = None) -> Tensor:
    return x + 1 if y is None else x + y


def summed(x: Tensor, parts: list[Tensor]) -> Tensor:
    return x + sum(parts)


def with_global(x: Tensor) -> Tensor:
    return x * NUMBER


def ones(*shape: int, **options: Any) -> Tensor:
    return torch.ones(shape, **options)


# ------------------------------------------------------------------ what changed

CHANGES = {
    "a size": (scale, [(ones(3), 2), (ones(4), 2)], "size", "x"),
    "a number of dimensions": (scale, [(ones(3), 2), (ones(3, 4), 2)], "size", "x"),
    "a stride": (scale, [(ones(3, 4), 2), (ones(4, 3).t(), 2)], "stride", "x"),
    "a dtype": (scale, [(ones(3), 2), (ones(3, dtype=torch.float64), 2)], "dtype", "x"),
    "requires_grad": (
        scale,
        [(ones(3), 2), (ones(3, requires_grad=True), 2)],
        "requires_grad",
        "x",
    ),
    "an int": (scale, [(ones(3), 2), (ones(3), 3)], "int", "n"),
    "a float": (scale, [(ones(3), 2.5), (ones(3), 3.5)], "float", "n"),
    "an int of an object": (held, [(ones(3), Holder(2)), (ones(3), Holder(3))], "int", "holder.value"),
    "a tensor of an object": (
        held,
        [(ones(3), Holder(ones(3))), (ones(3), Holder(ones(1)))],
        "size",
        "holder.value",
    ),
    "a function": (called, [(ones(3), torch.sin), (ones(3), torch.cos)], "object identity", "fn"),
    "an optional argument": (optional, [(ones(3), None), (ones(3), ones(3))], "object identity", "y"),
    "the length of a list": (summed, [(ones(3), [ones(3)]), (ones(3), [ones(3)] * 2)], "size", "parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_recompile_says_what_changed(name: str) -> None:
    fn, calls, category, argument = CHANGES[name]

    report = audit_calls(fn, [(args, {}) for args in calls], dynamic=False)

    (recompile,) = report.recompiles
    assert (recompile.category, recompile.argument) == (category, argument), recompile
    assert recompile.owner == "yours"
    (finding,) = report.findings
    assert (finding.kind, finding.category, finding.argument, finding.guard) == (
        "recompile",
        category,
        argument,
        recompile.guard,
    )
    # PyTorch does not say which line depends on a property of a tensor.
    read = 0 if finding.guard.startswith("tensor") else 1
    assert (finding.file, finding.line) == (__file__, fn.__code__.co_firstlineno + read)
    assert finding.hint.splitlines()[1:] == ["call 2 had 1 recompile, at most 0 expected"]


def changed(fn: Callable[..., Any], change: Callable[[], None]) -> Recompile:
    """Returns the recompiles after a change between two calls."""
    compiled = torch.compile(fn, backend="eager")
    with watch() as watched:
        compiled(ones(3))
        change()
        compiled(ones(3))
    (recompile,) = watched.report().recompiles
    return recompile


@pytest.fixture
def _same_globals() -> Iterator[None]:
    yield
    global NUMBER
    NUMBER = 1
    torch.set_grad_enabled(True)


@pytest.mark.usefixtures("_same_globals")
def test_a_global_and_the_global_state_are_told_apart() -> None:
    def set_number() -> None:
        global NUMBER
        NUMBER = 2

    def no_grad() -> None:
        torch.set_grad_enabled(False)

    number = changed(with_global, set_number)
    state = changed(with_global, no_grad)

    assert (number.category, number.argument) == ("int", "NUMBER")
    assert (state.category, state.argument) == ("global state", "")
    assert state.guard == "GLOBAL_STATE changed: grad_mode"


def test_an_attribute_of_a_module_is_named_as_in_code() -> None:
    module = Scaled()

    def rescale() -> None:
        module.scale = 2

    recompile = changed(module, rescale)

    assert (recompile.category, recompile.argument) == ("int", "self.scale")


def test_a_bound_that_depends_on_a_size_is_one_of_the_size() -> None:
    def branch(x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] > 5 else x - 1

    calls = [Step((ones(3),)), Step((ones(4),), recompiles=1), Step((ones(7),))]
    report = audit_calls(branch, calls)

    assert [r.category for r in report.recompiles] == ["size", "size"]
    assert [r.argument for r in report.recompiles] == ["x", "x"]
    (finding,) = report.findings
    assert finding.guard.startswith("2 <= x.size()[0]")
    assert len(report.recompiles[1].reasons) == 2  # one for each earlier compilation


@pytest.mark.parametrize(
    ("reason", "guard", "argument", "category"),
    [
        # as in torch 2.9
        ("0/0: L['n'] == 2  # return x * n", "n == 2", "n", "int"),
        (
            "0/0: tensor 'L['self']._modules['linear']._parameters['weight']' dtype mismatch.",
            "tensor 'self._modules['linear']._parameters['weight']' dtype mismatch.",
            "self.linear.weight",
            "dtype",
        ),
        ("0/0: ___check_obj_id(L['f'], 140)", "___check_obj_id(f, 140)", "f", "object identity"),
        ("0/1: x.size()[0] > y.size()[0]", "x.size()[0] > y.size()[0]", "x, y", "size"),
        ("0/1: 4 <= x.stride()[0]", "4 <= x.stride()[0]", "x", "stride"),
        ("0/1: x.storage_offset() == 0", "x.storage_offset() == 0", "x", "stride"),
        ("0/0: flag == True", "flag == True", "flag", "other"),
        ("0/0: name == 'a # b'", "name == 'a # b'", "name", "other"),
        ("0/0: -1 == n", "-1 == n", "n", "int"),
        ("0/0: not G['SEEN']", "not SEEN", "SEEN", "size"),
        ("0/0: not ___dict_contains('a', L['d'])", "not ___dict_contains('a', d)", "d", "other"),
        ("0/0: not set.__contains__(L['s'], 'a')", "not set.__contains__(s, 'a')", "s", "other"),
        ("0/1: list(dict.keys(L['d']))[0] == 'a'", "list(dict.keys(d))[0] == 'a'", "d", "other"),
        ("0/0: KeyError on self.adapter", "KeyError on self.adapter", "self.adapter", "other"),
        ("0/0: tensor '___from_numpy(a)' rank mismatch.", "tensor '___from_numpy(a)' rank mismatch.",
         "a", "size"),
        ('0/0: Duplicate tensors found: ["x", "y"]', 'Duplicate tensors found: ["x", "y"]', "x, y",
         "object identity"),
        ("0/0: ___check_torch_function_mode_stack()", "___check_torch_function_mode_stack()", "",
         "global state"),
        ("1/0: something else entirely", "something else entirely", "", "other"),
        ("", "", "", "other"),
    ],
)  # fmt: skip
def test_a_guard_is_read(reason: str, guard: str, argument: str, category: str) -> None:
    assert read_guard(reason) == FailedGuard(guard, argument, category)


def test_the_line_and_the_advice_of_a_guard_are_read() -> None:
    first = (
        "0/1: self.n == 1  # x * self.n  # models/layer.py:13 in forward (HINT: make it (an) int.)"
    )
    stack = 'User stack trace:\n  File "/a/model.py", line 7, in f\n    f()\n  File "/a/layer.py", line 13, in g'
    assert read_guard(first).places == (("models/layer.py", 13),)
    assert read_guard(first).hint == "make it (an) int."
    places = (("/a/layer.py", 13), ("/a/model.py", 7), ("models/layer.py", 13))
    assert read_guard(f"{first}\n{stack}").places == places
    assert read_guard("0/0: tensor 'x' rank mismatch. expected 1, actual 2").places == ()


def test_the_latest_compilation_says_what_changed() -> None:
    assert cause(["0/9: a", "0/10: b", "0/2: c"]) == "0/10: b"
    assert cause(["0/9: a", "0/10: b", "0/2: c"], ["b"]) == "0/9: a"
    assert cause(["0/9: a", "0/10: b"], ["a", "b"]) == "0/10: b"
    assert cause([]) == ""


# ------------------------------------------------------------------ scenarios


def attend(query: Tensor, keys: Tensor) -> Tensor:
    return (query @ keys.transpose(-1, -2)).softmax(-1)


def decode(*lengths: int, batch: int = 2) -> list[Step]:
    return [
        Step((ones(batch, 1, 4), ones(batch, length, 4)), recompiles=int(number == 1))
        for number, length in enumerate(lengths)
    ]


def test_growing_keys_cost_one_recompile() -> None:
    assert audit_calls(attend, decode(8, 9, 10, 40)).ok
    report = audit_calls(attend, [Step(s.args) for s in decode(8, 9, 10, 40)])
    (finding,) = report.findings
    assert finding.hint.splitlines()[1:] == ["call 2 had 1 recompile, at most 0 expected"]
    assert report.findings[0].argument == "keys"


def test_prefill_then_decode_costs_one_recompile() -> None:
    steps = [
        Step((ones(2, 8, 4), ones(2, 8, 4)), name="prefill"),
        Step((ones(2, 1, 4), ones(2, 9, 4)), name="decode", recompiles=1),
        Step((ones(2, 1, 4), ones(2, 10, 4)), recompiles=1),
        Step((ones(2, 1, 4), ones(2, 11, 4))),
    ]

    report = audit_calls(attend, steps)

    assert report.ok, report
    assert {r.category for r in report.recompiles} == {"size"}


def test_a_batch_of_one_then_of_two() -> None:
    steps = [Step((ones(1, 4),)), Step((ones(2, 4),), recompiles=1), Step((ones(3, 4),))]

    report = audit_calls(torch.sin, steps)
    module = audit_calls(nn.Linear(4, 4), steps)

    assert module.ok, module
    assert [(r.category, r.argument) for r in module.recompiles] == [("size", "input")]
    assert report.graphs <= 2


def test_a_flip_of_requires_grad() -> None:
    steps = [Step((ones(3), 2)), Step((ones(3, requires_grad=True), 2), name="training")]

    report = audit_calls(scale, steps)

    (finding,) = report.findings
    assert finding.category == "requires_grad"
    assert finding.hint.splitlines()[1] == "call 2 (training) had 1 recompile, at most 0 expected"


def test_all_recompiles_of_a_step_that_costs_too_many_are_told() -> None:
    def broken(x: Tensor) -> Tensor:
        x = x + 1
        torch._dynamo.graph_break()
        return x * 2

    report = audit_calls(broken, [Step((ones(3),)), Step((ones(4),), recompiles=1)])

    (finding,) = (finding for finding in report.findings if finding.kind == "recompile")
    assert finding.count == 2  # the function and what follows its break
    assert finding.hint.splitlines()[1:] == ["call 2 had 2 recompiles, at most 1 expected"]
    assert audit_calls(broken, [Step((ones(3),)), Step((ones(4),), recompiles=2)]).findings == (
        report.findings[0],
    )


def test_a_recompile_in_the_second_round_is_none_of_the_steps() -> None:
    seen: list[int] = []

    def counting(x: Tensor) -> Tensor:
        seen.append(0)
        return x + len(seen)

    report = audit_calls(counting, [Step((ones(3),), recompiles=9)])

    (finding,) = report.findings
    assert finding.hint.splitlines()[1] == "call 1, repeated, had 1 recompile, at most 0 expected"


def test_what_is_no_call_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"calls: expected a Step or a pair \(args, kwargs\), got Tensor"
    ):
        audit_calls(torch.sin, [ones(3)])


def test_no_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="calls: expected at least one, got none"):
        audit_calls(torch.sin, [])


def test_the_recompile_limit_names_the_argument() -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        report = audit_calls(scale, [Step((ones(3), 2)), Step((ones(4), 2))], dynamic=False)

    (finding,) = report.findings
    assert finding.kind == "recompile-limit"
    assert (finding.category, finding.argument) == ("size", "x")


def test_inputs_that_are_made_anew_are_the_same_each_time() -> None:
    made: list[Tensor] = []

    def random_steps() -> list[Step]:
        made.append(torch.rand(3))
        return [Step((made[-1],))]

    assert audit_calls(torch.sin, random_steps, gates=["export"]).ok
    assert len(made) == 3
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


@pytest.mark.parametrize(
    ("named", "frame", "found"),
    [
        ("/a/b/model.py", "/c/model.py", "/a/b/model.py"),
        ("b/model.py", "/a/b/model.py", "/a/b/model.py"),
        ("ol/b/model.py", "/a/tool/b/model.py", "/a/tool/b/model.py"),  # as in torch 2.9
        ("compile_checks/test_scenarios.py", "/a/model.py", __file__),
        ("b/unknown.py", "/a/model.py", ""),
        (torch.nn.__file__, "/a/model.py", ""),
    ],
)
def test_a_shortened_path_is_found(named: str, frame: str, found: str) -> None:
    assert guarded_line([(named, 7)], frame) == ((found, 7) if found else ("", 0))
