"""The targets that a command line can name, and the errors for invalid ones."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from expecttest import assert_expected_inline

from compile_checks import Case
from compile_checks._engine.scenarios import steps_of
from compile_checks.command.mappings import FIELDS
from compile_checks.command.targets import TargetError, definition, load

MODEL = """\
import functools
import torch
from torch import nn
from compile_checks import Case, Step


class Model(nn.Module):
    def forward(self, x, mask=None):
        return x * 2


class Sized(nn.Module):
    def __init__(self, width, depth=2):
        super().__init__()

    def forward(self, x):
        return x


class WithInputs(Model):
    def example_inputs(self):
        return {"x": torch.ones(4), "mask": None}


class Failing(nn.Module):
    def __init__(self):
        raise OSError("no weights")


class Config:
    pass


def step(x, mask):
    return x * mask


step.example_inputs = (torch.ones(5), torch.ones(5))


def optional(x=None):
    return torch.ones(2)


def alone():
    return torch.ones(3) + 1


def pair():
    return step, (torch.ones(6), torch.ones(6))


def pair_of_functions():
    return torch.sin, lambda: torch.ones(7)


def made_model():
    return Model()


def several():
    return [Case("first", step, []), (torch.sin, torch.ones(8))]


def no_cases():
    return []


def wrong_list():
    return [Model()]


def no_calls():
    return step, []


def no_calls_made():
    return step, no_cases


def three():
    return step, (torch.ones(1),), {}


def one_by_one():
    yield step, (torch.ones(1), torch.ones(1))


async def waits(x):
    return x


class Waits(torch.nn.Module):
    async def forward(self, x):
        return x


def steps():
    return torch.sin, [Step([torch.ones(2)]), Step([torch.ones(3)], recompiles=1), torch.ones(4)]


def failing():
    raise ValueError("no data")


def failing_inputs():
    return step, broken_inputs


def broken_inputs():
    raise KeyError("x")


model = Model()
partial = functools.partial(step, mask=torch.ones(1))
value_pair = (torch.sin, torch.ones(9))
number = 3


def example_inputs():
    return torch.ones(1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, which is the working directory."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "model.py").write_text(MODEL)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def inputs(name: str) -> list[tuple[list[Any], list[str]]]:
    """Returns the lengths of positional arguments and the names of keyword arguments per call."""
    (case,) = load(name)
    return [([len(arg) for arg in step.args], sorted(step.kwargs)) for step in steps_of(case.calls)]


def error(target: str) -> str:
    with pytest.raises(TargetError) as raised:
        load(target)
    return str(raised.value)


# ------------------------------------------------------------------ what can be audited


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Model", [([1], [])]),  # from the file's example_inputs
        ("model", [([1], [])]),
        ("made_model", [([1], [])]),
        ("partial", [([1], [])]),
        ("optional", [([1], [])]),
        ("WithInputs", [([], ["mask", "x"])]),  # from its own example_inputs
        ("step", [([5, 5], [])]),
        ("alone", [([], [])]),
        ("pair", [([6, 6], [])]),
        ("pair_of_functions", [([7], [])]),
        ("value_pair", [([9], [])]),
        ("steps", [([2], []), ([3], []), ([4], [])]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_a_name_stands_for(name: str, expected: Any) -> None:
    assert inputs(f"model.py::{name}") == expected
    (case,) = load(f"model:{name}")
    assert case.name == f"model:{name}"
    assert callable(case.fn)


@pytest.mark.usefixtures("folder")
def test_a_factory_s_list_gives_several_cases() -> None:
    first, second = load("model.py::several")

    assert (first.name, second.name) == ("first", "model.py::several[1]")
    assert second.fn is torch.sin


@pytest.mark.usefixtures("folder")
def test_steps_keep_their_budget() -> None:
    (case,) = load("model.py::steps")

    assert [step.recompiles for step in steps_of(case.calls)] == [0, 1, 0]


@pytest.mark.usefixtures("folder")
def test_a_function_of_inputs_makes_them_anew() -> None:
    (case,) = load("model.py::Model")

    first, second = steps_of(case.calls), steps_of(case.calls)
    assert first[0].args[0] is not second[0].args[0]


def test_random_weights_are_the_same_in_each_process(folder: Path) -> None:
    (folder / "bare.py").write_text("import torch\nmodel = torch.nn.Linear(2, 2)\n")
    (folder / "entry.py").write_text("from bare import model\nmade = model, ()\n")

    (case,) = load("entry.py::made")
    del sys.modules["bare"], sys.modules["entry"]
    (again,) = load("entry.py::made")

    assert case.fn is not again.fn
    assert torch.equal(case.fn.weight, again.fn.weight)


def test_a_function_without_example_inputs_of_which_it_needs_none(folder: Path) -> None:
    (folder / "bare.py").write_text("def f(x=1):\n    return x\n")

    assert inputs("bare.py::f") == [([], [])]


def test_a_factory_may_have_parameters_with_defaults(folder: Path) -> None:
    (folder / "bare.py").write_text(
        "import torch\ndef made(n=3):\n    return torch.sin, (torch.ones(n),)\n"
    )

    assert inputs("bare.py::made") == [([3], [])]
    assert load("bare.py::made")[0].fn is torch.sin


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[((x, x), {'alpha': 2})]", [([3, 3], ["alpha"])]),
        ("((x, x), {'alpha': 2})", [([3, 3], ["alpha"])]),
        ("[((x,), {}), (x, x)]", [([3], []), ([3, 3], [])]),
        ("(x, {'alpha': 2})", [([3, 1], [])]),  # two positional arguments
    ],
)
def test_calls_as_args_and_kwargs(given: str, expected: Any, folder: Path) -> None:
    (folder / "bare.py").write_text(
        f"import torch\nx = torch.ones(3)\ndef f(*args, **kwargs):\n    return x\n"
        f"def made():\n    return f, {given}\n"
    )
    (case,) = load("bare.py::made")

    calls = [([len(arg) for arg in s.args], sorted(s.kwargs)) for s in steps_of(case.calls)]
    assert calls == expected


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("torch.nn.ReLU()", "a ReLU without inputs"),
        ("{'model': torch.nn.ReLU(), 'inputs': (1,)}", "a mapping"),
        ("(torch.sin, 1, 2)", "a tuple of 3"),
    ],
)
def test_a_factory_that_returns_something_else(made: str, what: str, folder: Path) -> None:
    (folder / "bare.py").write_text(f"import torch\ndef made():\n    return {made}\n")

    assert error("bare.py::made") == (
        f"bare.py::made() returned {what}; expected (callable, inputs) or a list of cases"
    )


# ------------------------------------------------------------------ cases as mappings


def made(folder: Path, code: str) -> list[Case]:
    (folder / "plain.py").write_text(f"import torch\ndef cases():\n    return {code}\n")
    sys.modules.pop("plain", None)
    return load("plain.py::cases")


def test_a_mapping_has_the_fields_of_a_case(folder: Path) -> None:
    (case,) = made(
        folder,
        """[{
            "name": "all", "fn": torch.sin, "inputs": [{"input": torch.ones(2)}, torch.ones(3)],
            "dynamic": True, "backward": True, "max_graphs": 2, "covers": "op sin",
            "fullgraph": True, "backend": "eager", "compare": False, "gates": ["export"],
            "expected_graph": {"sin": 1},
        }]""",
    )

    steps = steps_of(case.calls)
    assert [(len(step.args), [*step.kwargs]) for step in steps] == [(0, ["input"]), (1, [])]
    assert replace(case, calls=()) == Case(
        name="all",
        fn=torch.sin,
        calls=(),
        dynamic=True,
        backward=True,
        max_graphs=2,
        covers="op sin",
        fullgraph=True,
        backend="eager",
        compare=False,
        gates=["export"],
        expected_graph={"sin": 1},
    )


def test_the_keys_are_the_fields_of_a_case() -> None:
    names = [field.name for field in fields(Case)]

    assert [*FIELDS] == ["inputs" if name == "calls" else name for name in names]


def test_what_a_mapping_leaves_out_has_the_default_of_a_case(folder: Path) -> None:
    pair, mapping = made(folder, "[(torch.rand, ()), {'fn': torch.rand}]")

    assert mapping.name == "plain.py::cases[1]"
    assert replace(mapping, name=pair.name) == pair


def test_a_mapping_may_make_its_inputs(folder: Path) -> None:
    (case,) = made(folder, "[{'fn': torch.sin, 'inputs': lambda: torch.ones(2)}]")

    first, second = steps_of(case.calls), steps_of(case.calls)
    assert first[0].args[0] is not second[0].args[0]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "{'fn': torch.sin, 'calls': []}",
            "unknown key 'calls'; expected one of name, fn, inputs, dynamic, ",
        ),
        ("{'fn': torch.sin, 3: 4}", "unknown key 3; expected one of name, "),
        ("{'inputs': 1}", "'fn' is missing: expected a callable"),
        ("{'fn': 'torch.sin'}", "'fn': expected a callable, got 'torch.sin'"),
        ("{'fn': torch.sin, 'name': ''}", "'name': expected a non-empty string, got ''"),
        ("{'fn': torch.sin, 'name': 3}", "'name': expected a non-empty string, got 3"),
        ("{'fn': torch.sin, 'inputs': []}", "expected at least one call, got an empty list of"),
        (
            "{'fn': torch.sin, 'dynamic': 'yes'}",
            "'dynamic': expected True, False or None, got 'yes'",
        ),
        ("{'fn': torch.sin, 'backward': 1}", "'backward': expected True or False, got 1"),
        ("{'fn': torch.sin, 'max_graphs': 0}", "'max_graphs': expected a positive integer, got 0"),
        (
            "{'fn': torch.sin, 'max_graphs': True}",
            "'max_graphs': expected a positive integer, got Tr",
        ),
        ("{'fn': torch.sin, 'covers': ['a']}", "'covers': expected a string, got ['a']"),
        ("{'fn': torch.sin, 'fullgraph': None}", "'fullgraph': expected True or False, got None"),
        (
            "{'fn': torch.sin, 'backend': max}",
            "'backend': expected the name of a backend, got <built",
        ),
        (
            "{'fn': torch.sin, 'compare': torch.ones(99)}",
            "'compare': expected True or False, got Tensor",
        ),
        (
            "{'fn': torch.sin, 'gates': 'pt2'}",
            "'gates': expected a list with any of cudagraph, export, ",
        ),
        (
            "{'fn': torch.sin, 'gates': ['exprot']}",
            "'gates': expected a list with any of cudagraph, ",
        ),
        (
            "{'fn': torch.sin, 'expected_graph': {'sin': 'one'}}",
            "'expected_graph': expected a string, or a mapping of ops to their counts, got {'sin': 'one'}",
        ),
    ],
)
def test_a_wrong_mapping_names_the_key(code: str, said: str, folder: Path) -> None:
    with pytest.raises(TargetError) as raised:
        made(folder, f"[(torch.rand, ()), {code}]")

    assert str(raised.value).startswith(f"plain.py::cases[1]: {said}")


def test_a_mapping_alone_is_no_list_of_cases(folder: Path) -> None:
    with pytest.raises(TargetError) as raised:
        made(folder, "{'fn': torch.sin}")

    assert str(raised.value) == (
        "plain.py::cases() returned a mapping; expected (callable, inputs) or a list of cases"
    )


# ------------------------------------------------------------------ where it is found


def test_a_file_of_a_package_is_imported_as_part_of_it(folder: Path) -> None:
    package = folder / "pkg" / "sub"
    package.mkdir(parents=True)
    for place in (folder / "pkg", package):
        (place / "__init__.py").write_text("")
    (folder / "pkg" / "base.py").write_text("import torch\nfn = torch.sin\n")
    (package / "model.py").write_text("from ..base import fn\ndef made():\n    return fn, ()\n")

    (case,) = load("pkg/sub/model.py::made")
    (same,) = load("pkg.sub.model:made")

    assert case.fn is same.fn is torch.sin
    assert "pkg.sub.model" in sys.modules


def test_a_file_elsewhere_finds_its_neighbours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "neighbour.py").write_text("def f():\n    return 1\n")
    (other / "entry.py").write_text("from neighbour import f\n")

    (case,) = load("other/entry.py::f")

    assert case.fn.__module__ == "neighbour"


def test_a_file_may_bear_the_name_of_a_module_that_is_loaded(folder: Path) -> None:
    import json

    (folder / "json.py").write_text("def f():\n    return 1\n")

    (case,) = load("json.py::f")

    assert case.fn.__code__.co_filename == str(folder / "json.py")
    assert sys.modules["json"] is json
    del sys.modules["audited_json"]


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("nope.py::f", "nope.py: no such file"),
        ("model.py::", "model.py::: expected path/to/file.py::name or package.module:name; it "),
        ("::f", "::f: expected path/to/file.py::name or package.module:name"),
        ("model.py::a b", "model.py::a b: expected path/to/file.py::name or package.module:name"),
        ("no-module:f", "no-module: expected path/to/file.py::name or package.module:name"),
        (
            "model.py::number",
            "model.py::number: expected a function, a torch.nn.Module or a factory, got int",
        ),
        ("model.py::Config", "model.py::Config: expected a torch.nn.Module, got class Config"),
        ("model.py::no_cases", "model.py::no_cases: expected at least one case, got an empty list"),
        (
            "model.py::wrong_list",
            "model.py::wrong_list[0]: expected a Case, (callable, inputs) or a mapping, got Model",
        ),
        (
            "model.py::no_calls",
            "model.py::no_calls: expected at least one call, got an empty list of inputs",
        ),
        (
            "model.py::no_calls_made",
            "model.py::no_calls_made: expected at least one call, got an empty list of inputs",
        ),
        (
            "model.py::three",
            "model.py::three() returned a tuple of 3; expected (callable, inputs) or a list of cases",
        ),
        ("model.py::one_by_one", "model.py::one_by_one() returned a generator; expected (callable"),
        (
            "model.py::waits",
            "model.py::waits: fn: expected a callable that returns results, got async function waits",
        ),
        (
            "model.py::Waits",
            "model.py::Waits: fn: expected a callable that returns results, got async function Waits",
        ),
        ("model.py::Sized", "model.py::Sized: Sized(width) requires arguments."),
    ],
)
@pytest.mark.usefixtures("folder")
def test_an_error_says_what_was_expected_and_what_came(target: str, text: str) -> None:
    assert error(target).startswith(text)


@pytest.mark.usefixtures("folder")
def test_a_misspelt_name_lists_what_the_file_offers() -> None:
    assert_expected_inline(
        error("model.py::stpe"),
        """model.py::stpe: there is no 'stpe' in model; did you mean 'step'?; it contains: Model, Sized, WithInputs, Failing, step, optional, alone, pair, pair_of_functions, made_model, several, no_cases, wrong_list, no_calls, no_calls_made, three, one_by_one, waits, Waits, steps, failing, failing_inputs, broken_inputs, model, value_pair""",
    )


@pytest.mark.usefixtures("folder")
def test_a_file_alone_lists_what_it_offers() -> None:
    assert error("model.py").startswith("model.py: expected path/to/file.py::name or ")
    assert "it contains: Model, Sized, WithInputs, Failing, step, optional, " in error("model.py")


def test_a_file_with_nothing_to_audit(folder: Path) -> None:
    (folder / "empty.py").write_text("import torch\nfrom torch.nn import Linear\n_f = print\n")

    assert (
        error("empty.py::f")
        == "empty.py::f: there is no 'f' in empty; it contains nothing to audit"
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def f(x, mask):\n    return x\n", "f"),
        (
            "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x\n",
            "Net",
        ),
    ],
    ids=["function", "module"],
)
def test_code_that_needs_inputs_says_how_to_give_them(code: str, name: str, folder: Path) -> None:
    (folder / "bare.py").write_text(code)
    given, made = {"f": ("(x, mask)", "f"), "Net": ("(x,)", "Net()")}[name]

    assert error(f"bare.py::{name}") == (
        f"bare.py::{name} requires inputs: {given}. Add to bare.py either\n"
        "    def example_inputs():\n"
        f"        return {given}\n"
        f"or a factory, and pass its name instead of {name}:\n"
        "    def audited():\n"
        f"        return {made}, {given}"
    )


def test_inputs_that_do_not_fit(folder: Path) -> None:
    (folder / "bare.py").write_text("def f(x, y):\n    return x\nexample_inputs = (1, 2, 3)\n")

    assert (
        error("bare.py::f")
        == "bare.py::f: example_inputs does not match the signature: too many positional arguments"
    )


@pytest.mark.parametrize(
    ("target", "doing", "last"),
    [
        ("model.py::failing", "model.py::failing() raised", "ValueError: no data"),
        ("model.py::Failing", "model.py::Failing() raised", "OSError: no weights"),
        (
            "model.py::failing_inputs",
            "model.py::failing_inputs: broken_inputs() raised",
            "KeyError: 'x'",
        ),
    ],
)
def test_an_error_of_the_user_s_code_is_told_with_its_own_frames(
    target: str, doing: str, last: str, folder: Path
) -> None:
    lines = error(target).splitlines()

    assert lines[0] == f"{doing}:"
    assert lines[1].startswith(f'  File "{folder / "model.py"}", line ')
    assert lines[-1] == last
    assert "compile_checks" not in error(target)


@pytest.mark.parametrize(
    ("code", "last"),
    [
        (
            "import torch\nimport nowhere_to_be_found\n",
            "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
        ("x = (1,\n", "SyntaxError: '(' was never closed"),
        ("import sys\nsys.exit('not today')\n", "SystemExit: not today"),
    ],
)
@pytest.mark.parametrize("target", ["bad.py::f", "bad:f"])
def test_an_import_that_fails(code: str, last: str, target: str, folder: Path) -> None:
    (folder / "bad.py").write_text(code)

    lines = error(target).splitlines()

    assert lines[0] == f"cannot import {target.rstrip(':f')}:"
    assert str(folder / "bad.py") in lines[1]
    assert lines[-1] == last
    assert "importlib" not in error(target)
    assert "bad" not in sys.modules


def test_a_module_that_there_is_not() -> None:
    assert error("nowhere.to:f") == (
        "nowhere.to: no module named 'nowhere'. Install it (`pip install -e .`), "
        "or pass the path of the file"
    )


# ------------------------------------------------------------------ where it is defined


def decorated(fn: Any) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


@decorated
def here() -> None: ...


def test_where_a_callable_is_defined() -> None:
    line = here.__wrapped__.__code__.co_firstlineno

    assert definition(here) == (__file__, line)
    assert definition(torch.nn.ReLU())[0].endswith("activation.py")
    assert definition(torch.sin) == ("", 0)
