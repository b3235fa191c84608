"""The command `python -m compile_checks`: exit status, output, reports and options."""

from __future__ import annotations

import io
import json
import linecache
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from compile_checks import Case, __main__
from compile_checks._engine.findings import Mode
from compile_checks.command.arguments import parse
from compile_checks.command.plan import Options, Plan, Target, Task
from compile_checks.command.progress import Progress
from compile_checks.command.runner import run
from tests.compile_checks.install import python_path
from tests.compile_checks.samples import breaks

MODEL = """\
import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x).relu()


def broken(x):
    return x * x.sum().item()


def example_inputs():
    return (torch.ones(2, 3),)


def branching(x):
    return x + 1 if x.sum() > 0 else x - 1


def growing():
    return torch.nn.ReLU(), [torch.ones(n) for n in (2, 3, 4)]


def noisy():
    def fn(x):
        return x + 1

    print("loading the weights")
    return fn, torch.ones(3)
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file. Its folder is the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "model.py"
    file.write_text(MODEL)
    yield file
    sys.modules.pop("model", None)


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases of the target `own_cases:cases`, for a test to fill."""
    chosen: list[Case] = []
    module: Any = ModuleType("own_cases")
    module.cases = lambda: chosen
    monkeypatch.setitem(sys.modules, "own_cases", module)
    return chosen


def clean() -> Case:
    return Case("clean", torch.nn.ReLU(), [((torch.ones(3),), {})])


def broken(name: str = "item") -> Case:
    return Case(f"broken {name}", getattr(breaks, name), [((torch.ones(3),), {})])


# ------------------------------------------------------------------ a list of cases


def test_a_case_that_raises_does_not_stop_the_others(
    cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(x: Tensor) -> Tensor:
        raise ValueError("x must be something else\nand more")

    cases += [Case("raises", fails, [((torch.ones(3),), {})]), clean()]

    assert __main__.main(["own_cases:cases"]) == 1

    out = capsys.readouterr().out
    raised = fails.__code__.co_firstlineno + 1
    place = f"tests/compile_checks/test_command.py:{raised}: error: ValueError: x must be something else"
    assert f" {place} > " in " ".join(out.split())
    assert "\nclean  " in out
    assert out.endswith("\n2 cases, 1 failed\n")


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]])
def test_a_target_that_raises_does_not_stop_the_others(
    jobs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.py").write_text(
        "import torch\ndef raises():\n    raise OSError('no weights')\n"
        "def good():\n    return torch.nn.ReLU(), (torch.ones(3),)\n"
    )
    targets = ["made.py::raises", "made.py::good"]

    assert __main__.main([*targets, "--json", "out.json", "--sarif", "out.sarif", *jobs]) == 1

    raised, good = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert (raised["name"], good["name"], good["ok"]) == (*targets, True)
    (finding,) = raised["findings"]
    assert (finding["kind"], finding["line"]) == ("error", 3)
    assert finding["reason"] == "OSError: no weights"
    assert json.loads((tmp_path / "out.sarif").read_text())["runs"]


def test_a_run_that_ends_early_leaves_no_empty_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert __main__.main(["nowhere.py::f", "--sarif", "out.sarif"]) == 2
    assert not (tmp_path / "out.sarif").exists()


def leaves_at_once(x: Tensor) -> Tensor:
    os._exit(0)


def test_a_case_that_raises_leaves_the_random_generators_alone() -> None:
    layer = torch.nn.Linear(4, 4)
    before = torch.get_rng_state()
    assert not Case("raises", layer, [((torch.ones(1, 3),), {})]).run().ok
    assert torch.equal(torch.get_rng_state(), before)


def test_code_that_ends_the_process_is_noticed(
    cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    cases += [Case("leaves", leaves_at_once, [((torch.ones(3),), {})]), clean()]

    assert __main__.main(["own_cases:cases"]) == 1
    out = capsys.readouterr().out
    assert "error: SystemExit: os._exit(0)" in out
    assert out.endswith("\n2 cases, 1 failed\n")


def test_a_time_limit_implies_isolation() -> None:
    assert parse(["--timeout", "5"]).isolate
    assert not parse(["--timeout", "5", "--jobs", "2"]).isolate
    assert not parse([]).isolate


def test_files_of_the_user_do_not_replace_the_standard_library(tmp_path: Path) -> None:
    for name in ("json", "argparse", "logging"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the user')\n")
    (tmp_path / "model.py").write_text(
        "import torch\ndef f(x):\n    return x + 1\nexample_inputs = (torch.ones(2),)\n"
    )
    environment = os.environ | {"PYTHONPATH": python_path(tmp_path / "installed")}
    for target in ("model.py::f", "model:f"):
        ran = subprocess.run(
            [sys.executable, "-m", "compile_checks", target],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.endswith("\n1 case, none failed\n")


def by_cause(x: Tensor) -> Tensor:
    try:
        return x + {}["header"]
    except KeyError as error:
        raise RuntimeError("could not load\nsecond line") from error


def compiled_only(x: Tensor) -> Tensor:
    return x @ torch.ones(7, 7) if torch.compiler.is_compiling() else x


def refusing(graph: Any, inputs: Any) -> Any:
    raise ValueError("no such op")


def test_errors_keep_their_cause(cases: list[Case], tmp_path: Path) -> None:
    calls = [((torch.ones(1, 3),), {})]
    cases += [
        Case("cause", by_cause, calls),
        Case("eager", torch.nn.Linear(4, 4), calls),
        Case("compiled", compiled_only, calls),
        Case("backend", torch.nn.ReLU(), calls, backend=refusing),
    ]
    assert __main__.main(["own_cases:cases", "--json", str(tmp_path / "out.json")]) == 1

    found = [c["findings"][0] for c in json.loads((tmp_path / "out.json").read_text())["cases"]]
    reasons = [finding["reason"] for finding in found]
    first = by_cause.__code__.co_firstlineno
    assert reasons[0] == (
        "RuntimeError: could not load, caused by KeyError: 'header'\nsecond line\n"
        f"  Eager mode raises it too.\n  caused by KeyError: 'header' (at {__file__}:{first + 2})"
    )
    assert (found[0]["file"], found[0]["line"]) == (__file__, first + 4)
    assert reasons[1].replace("addmm: ", "") == (  # torch 2.15 names the op
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 4x4)\n"
        "  Eager mode raises it too."
    )
    assert "caused by RuntimeError('a and b must have same reduction dim" in reasons[2]
    assert "Eager" not in reasons[2]
    assert reasons[3] == "ValueError: no such op"


def test_audited_code_does_not_choose_the_exit_status(
    cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    def leaves(x: Tensor) -> Tensor:
        sys.exit(0)

    cases += [Case("leaves", leaves, [((torch.ones(3),), {})], compare=False), clean()]

    assert __main__.main(["own_cases:cases"]) == 1
    line = leaves.__code__.co_firstlineno + 1
    out = " ".join(capsys.readouterr().out.split())
    assert f"test_command.py:{line}: error: SystemExit: 0 > sys.exit(0)" in out


def test_only_the_project_s_own_cases_need_dmask(model: Path) -> None:
    program = (
        "import sys; from compile_checks.__main__ import main\n"
        "assert main(['model.py::Model']) == 0\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'dmask']\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ------------------------------------------------------------------ anybody's code


def test_a_clean_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["model.py::Model"]) == 0

    out = capsys.readouterr().out
    assert "\nmodel.py::Model                                       1      0          0 ok\n" in out
    assert out.endswith("\n1 case, none failed\n")
    assert "\x1b" not in out


def test_a_finding_exits_with_1_and_is_shown_at_its_line(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["model.py::Model", "model:broken"]) == 1

    out = capsys.readouterr().out
    assert "  model.py:14: graph-break: " in out
    assert "    > return x * x.sum().item()\n" in out
    assert (
        "\nmodel:broken                                          2      1          0 FAIL\n" in out
    )
    assert out.endswith("\n2 cases, 1 failed\n")


@pytest.mark.parametrize(("options", "status"), [([], 1), (["--budget", "2"], 0)])
def test_a_budget(options: list[str], status: int, model: Path) -> None:
    assert __main__.main(["model.py::growing", *options]) == status


def test_what_audited_code_prints_does_not_mix_with_the_table(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["model.py::noisy"]) == 0

    captured = capsys.readouterr()
    assert "loading the weights" in captured.err
    assert captured.out.startswith("case ")


def test_every_file_is_written(model: Path) -> None:
    names = ("html", "json", "junit", "markdown", "sarif")
    options = [part for name in names for part in (f"--{name}", f"out.{name}")]

    assert __main__.main(["model.py::broken", *options]) == 1

    for name in names:
        assert "model.py::broken" in Path(f"out.{name}").read_text()


@pytest.mark.parametrize(("actions", "annotations"), [("true", 1), ("false", 0)])
def test_annotations_where_github_runs_it(
    actions: str,
    annotations: int,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", actions)
    __main__.main(["model.py::broken"])

    out = capsys.readouterr().out
    assert out.count("\n::error file=model.py,line=14,title=graph-break in ") == annotations


def test_colour_on_a_terminal(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")

    __main__.main(["model.py::Model"])
    assert "\x1b[32mok\x1b[0m" in capsys.readouterr().out

    monkeypatch.setenv("NO_COLOR", "1")
    __main__.main(["model.py::Model"])
    assert "\x1b" not in capsys.readouterr().out


# ------------------------------------------------------------------ modes


@pytest.mark.parametrize(
    ("options", "modes"),
    [
        (Options(), [Mode(dynamic=True, backward=True)]),
        (Options(mode="fullgraph"), [Mode(True, True, True)]),
        (Options(mode="all"), [Mode(False, True, True), Mode(True, True, True)]),
        (Options(dynamic="auto"), [Mode(False, None, True)]),
        (Options(dynamic="false", backward=False), [Mode(False, False, False)]),
        (Options(backend="eager"), [Mode(False, True, True, "eager")]),
        (
            Options(mode="all", dynamic="all"),
            [
                Mode(full, dynamic, True)
                for dynamic in (None, True, False)
                for full in (False, True)
            ],
        ),
    ],
)
def test_options_stand_in_for_what_the_case_says(options: Options, modes: list[Mode]) -> None:
    case = Case("case", torch.nn.ReLU(), [], dynamic=True, backward=True)

    assert list(options.modes(case)) == modes


def test_gates_are_added_and_a_budget_replaces() -> None:
    case = Case("case", torch.nn.ReLU(), [], max_graphs=7)

    assert Options().applied(case) == case
    changed = Options(budget=2, gates=("export",)).applied(case)
    assert changed.max_graphs == 2
    assert set(changed.gates) == {*case.gates, "export"}


def test_each_mode_is_a_case_of_the_report(model: Path) -> None:
    options = ["--mode", "all", "--dynamic", "true", "--backward", "--backend", "eager"]

    assert __main__.main(["model.py::Model", *options, "--json", "out.json"]) == 0

    document = json.loads(Path("out.json").read_text())
    assert [case["name"] for case in document["cases"]] == [
        "model.py::Model, default, dynamic=True, backward, eager",
        "model.py::Model, fullgraph, dynamic=True, backward, eager",
    ]
    assert [case["mode"]["fullgraph"] for case in document["cases"]] == [False, True]


def test_a_gate_that_fails(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["model.py::branching", "--gate", "export"]) == 1

    assert "export: " in capsys.readouterr().out


# ------------------------------------------------------------------ processes


def crash(x: Tensor) -> Tensor:
    os._exit(7)


def kill(x: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    return x


def module_level(x: Tensor) -> Tensor:
    return x + 1


def four_tasks() -> list[Task]:
    """Returns two tasks that end their process, between two that are clean."""
    calls = [((torch.ones(3),), {})]
    functions = (module_level, crash, kill, torch.nn.ReLU())
    return [
        Task(Case(f"case {n}", fn, calls, compare=False), (Mode(),))
        for n, fn in enumerate(functions)
    ]


def test_a_case_that_ends_its_process_is_a_finding() -> None:
    results = run(four_tasks, four_tasks(), Progress(4), jobs=2)

    assert [result.name for result in results] == ["case 0", "case 1", "case 2", "case 3"]
    assert [str(result.report) for result in results] == [
        "ok",
        "crash: the process of this case exited with status 7",
        "crash: the process of this case was killed by signal 9",
        "ok",
    ]
    assert results[1].file == __file__
    assert all(result.seconds > 0 for result in results if result.report.ok)


@torch.compiler.disable
def tell() -> None:
    raise RuntimeError(f"in process {os.getpid()}.")


def processes(x: Tensor) -> Tensor:
    tell()
    return x


def three_tasks() -> list[Task]:
    """Returns tasks that report the process that they run in."""
    calls = [((torch.ones(3),), {})]
    return [Task(Case(str(n), processes, calls, compare=False), (Mode(),)) for n in range(3)]


@pytest.mark.parametrize(
    ("how", "count", "here"),
    [({}, 1, True), ({"jobs": 2}, 2, False), ({"isolate": True}, 3, False)],
)
def test_how_many_processes_share_the_cases(how: dict[str, Any], count: int, here: bool) -> None:
    results = run(three_tasks, three_tasks(), Progress(3), **how)

    found = [re.findall(r"in process (\d+)\.", str(result.report)) for result in results]
    ids = {number for numbers in found for number in numbers}
    assert all(found)
    assert len(ids) == count
    assert (str(os.getpid()) in ids) == here


def test_processes_find_what_one_process_finds(model: Path) -> None:
    def document(name: str, *options: str) -> Any:
        __main__.main(["model.py::Model", "model.py::broken", *options, "--json", name])
        report = json.loads(Path(name).read_text())
        for case in report["cases"]:
            del case["seconds"]
            for frame in case["frames"]:
                del frame["seconds"]
            case["frames"].sort(key=lambda frame: frame["line"])  # not by seconds
        return report

    assert document("apart.json", "--jobs", "2") == document("here.json")


HANGING = """

@torch.compiler.disable
def sleep():
    import time

    time.sleep(600)


def hanging(x):
    sleep()
    return x
"""
FILES = ("html", "json", "junit", "markdown", "sarif")


@pytest.mark.parametrize("how", [("--isolate",), ("--jobs", "2")])
def test_a_case_that_hangs_is_ended_and_the_others_go_on(
    model: Path, how: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    model.write_text(MODEL + HANGING)
    files = [word for name in FILES for word in (f"--{name}", f"report.{name}")]
    targets = ("model.py::hanging", "model.py::Model")
    began = time.monotonic()

    assert __main__.main([*targets, *how, "--timeout", "12", *files]) == 1

    assert 12 <= time.monotonic() - began < 300
    table = capsys.readouterr().out
    said = "timeout: the case took longer than 12 s and was killed"
    assert said in table
    assert table.endswith("2 cases, 1 failed\n")
    hanging, other = json.loads(Path("report.json").read_text())["cases"]
    assert ([f["kind"] for f in hanging["findings"]], hanging["seconds"]) == (["timeout"], 12)
    assert other["ok"]
    assert all("timeout" in Path(f"report.{name}").read_text() for name in FILES)


def test_no_time_limit_ends_a_case_that_keeps_it() -> None:
    results = run(three_tasks, three_tasks(), Progress(3), jobs=2, timeout=300)

    assert [f.kind for result in results for f in result.report.findings] == ["error"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--isolate", "--timeout", "0"], "expected a positive number of seconds, got '0'"),
        (["--isolate", "--timeout", "nan"], "expected a positive number of seconds, got 'nan'"),
        (["--isolate", "--timeout", "inf"], "expected a positive number of seconds, got 'inf'"),
        (["--isolate", "--timeout", "soon"], "expected a positive number of seconds, got 'soon'"),
    ],
)
def test_a_time_limit_that_cannot_be_kept_is_wrong_usage(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        __main__.main(options)

    assert raised.value.code == 2
    assert message in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar_says_what_runs() -> None:
    stream = Terminal()
    progress = Progress(2, stream)
    run(list, [Task(clean(), (Mode(),)), Task(broken(), (Mode(),))], progress)
    progress.close()

    lines = stream.getvalue().split("\r\x1b[K")
    assert lines == [
        "",
        "[--------------------] 0/2 clean",
        "[##########----------] 1/2 broken item",
        "",
    ]


# ------------------------------------------------------------------ baseline


def rewrite(file: Path, text: str) -> None:
    """Rewrites a module, as if the next run were in another process."""
    file.write_text(text)
    sys.modules.pop(file.stem)
    linecache.checkcache()


def test_a_baseline_from_the_first_run_to_the_last(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["model.py::broken", "--baseline", "known.json"]
    update = ["--update-baseline", "--reason", "being rewritten", "--expires", "2999-12-31"]

    assert __main__.main([*command, *update]) == 0
    assert __main__.main(command) == 0
    out = capsys.readouterr().out
    assert "known until 2999-12-31: model.py:14: graph-break: " in out
    assert "[being rewritten]" in " ".join(out.split())

    rewrite(model, "# moved by a line\n" + MODEL)
    assert __main__.main(command) == 0

    rewrite(model, MODEL.replace("x.sum().item()", "x.max().item()"))
    assert __main__.main(command) == 1

    rewrite(model, MODEL.replace("x.sum().item()", "x.sum()"))
    capsys.readouterr()
    assert __main__.main(command) == 1
    assert "baseline-vanished: model.py: graph-break: " in capsys.readouterr().out
    assert __main__.main([*command, *update]) == 0
    assert json.loads(Path("known.json").read_text())["findings"] == []


# ------------------------------------------------------------------ wrong usage


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--jsno", "x"], "unrecognized arguments: --jsno"),
        (["--json"], "argument --json: expected one argument"),
        (["--json", "no/such/directory/audit.json"], "argument --json: "),
        (["--sarif", "."], "argument --sarif: "),
        (["--jobs", "0"], "argument --jobs: expected a positive integer, got '0'"),
        (["--budget", "few"], "argument --budget: expected a positive integer, got 'few'"),
        (["--mode", "full"], "argument --mode: invalid choice: 'full'"),
        (["--backend", "agre"], "argument --backend: unknown backend 'agre'; expected one of "),
        (["--gate", "exprot"], "argument --gate: invalid choice: 'exprot'"),
        (["--expires", "soon"], "argument --expires: expected a date as YYYY-MM-DD, got 'soon'"),
        (
            ["--expires", "2020-01-01"],
            "argument --expires: expected today or later, got 2020-01-01",
        ),
        (["--update-baseline"], "argument --update-baseline: requires --baseline FILE"),
        (["--update-baseline", "--baseline", "f"], "argument --update-baseline: requires --reason"),
        (
            ["--update-baseline", "--baseline", "no/such/f", "--reason", "r"],
            "argument --baseline: no such folder: no/such",
        ),
        (["--reason", "r"], "argument --reason: requires --update-baseline"),
    ],
)
def test_wrong_usage_exits_with_2_before_any_work(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        __main__.main(argv)

    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nope.py::f"], "error: nope.py: no such file\n"),
        (["model.py::Modle"], "did you mean 'Model'?"),
        (["model.py::Model", "--baseline", "none.json"], "error: none.json: "),
        (["model.py::Model"] * 2, "error: model.py::Model: 2 cases have this name\n"),
    ],
)
def test_what_cannot_be_loaded_exits_with_2_and_no_traceback(
    argv: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(argv) == 2

    captured = capsys.readouterr()
    assert captured.err.startswith("compile_checks: error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_interrupted(cases: list[Case], capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    cases.append(Case("case", interrupt, [((torch.ones(3),), {})]))

    assert __main__.main(["own_cases:cases"]) == 130
    assert capsys.readouterr().err == "compile_checks: interrupted\n"


def interrupt(x: Tensor) -> Tensor:
    raise KeyboardInterrupt


def interrupted_task() -> list[Task]:
    return [Task(Case("case", interrupt, [((torch.ones(3),), {})]), (Mode(),))]


def test_a_process_that_is_interrupted_shows_no_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    (result,) = run(interrupted_task, interrupted_task(), Progress(1), isolate=True)

    assert str(result.report) == "crash: the process of this case exited with status 130"
    assert "Traceback" not in capfd.readouterr().err


def test_a_plan_can_be_sent_to_another_process(model: Path) -> None:
    plan = pickle.loads(pickle.dumps(Plan((Target("model.py::growing", Options(budget=3)),))))

    (task,) = plan.tasks()
    assert (task.name, task.case.max_graphs) == ("model.py::growing", 3)


def test_help_in_a_fresh_process() -> None:
    command = [sys.executable, "-m", "compile_checks", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("usage: python -m compile_checks [-h] ")
    assert "Exit status: 0" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--jobs", "0"], ["--watch"]])
def test_help_and_usage_errors_do_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from compile_checks.__main__ import main\n"
        "try:\n"
        f"    main({arguments})\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr
