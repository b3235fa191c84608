"""How much of a call's time is in Python, and at which break."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compile_checks import AuditReport, Finding, Step, __main__, audit, audit_calls
from compile_checks._engine import timing
from compile_checks._engine.costs import Times
from compile_checks._engine.timing import GraphRun, TimedCall
from compile_checks.outputs import rendered

X = torch.ones(3)
PAUSE = 0.01
"""Seconds. Much longer than everything else that the functions below do."""


@torch.compiler.disable
def pause() -> None:
    time.sleep(PAUSE)


def timed(fn: Callable[..., Any], **options: Any) -> AuditReport:
    return audit(fn, (X,), backend="eager", time=True, **options)


def at(report: AuditReport, source: str) -> Finding:
    (found,) = (finding for finding in report.findings if finding.source == source)
    return found


def spent(report: AuditReport, source: str) -> float:
    """The seconds at the break of a line."""
    seconds = at(report, source).seconds
    assert seconds is not None
    return seconds


def slow_and_fast(x: Tensor) -> Tensor:
    x = x.sin()
    pause()
    x = x.cos()
    torch._dynamo.graph_break()
    return x * 2


def test_time_between_two_graphs_belongs_to_the_break_between_them() -> None:
    report = timed(slow_and_fast)

    assert report.times is not None
    assert report.times.rounds >= timing.MIN_ROUNDS
    assert PAUSE <= spent(report, "pause()") <= report.times.seconds
    assert spent(report, "torch._dynamo.graph_break()") < PAUSE
    assert report.times.graph_seconds < report.times.seconds - PAUSE
    share = report.times.share(spent(report, "pause()"))
    assert at(report, "pause()").cost == f"{share}, 1 op in the graph before it, 1 in the next"
    assert report.notes == ()


def test_without_time_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.Stopwatch, "watching", None)
    monkeypatch.setattr(timing, "timed", None)

    report = audit(slow_and_fast, (X,), backend="eager")

    assert (report.times, report.findings[0].seconds) == (None, None)


def paused_first(x: Tensor) -> Tensor:
    pause()
    return x * 2


def paused_last(x: Tensor) -> Tensor:
    x = x * 2
    pause()
    return x


@pytest.mark.parametrize("fn", [paused_first, paused_last])
def test_time_before_the_first_graph_and_after_the_last(fn: Callable[[Tensor], Tensor]) -> None:
    assert spent(timed(fn), "pause()") >= PAUSE


def halved(x: Tensor) -> Tensor:
    x = x / 2
    torch._dynamo.graph_break()  # in helper
    return x + 1


def looping(x: Tensor) -> Tensor:
    for _ in range(3):
        pause()
        x = halved(x)
    return x


def calls_looping(x: Tensor) -> Tensor:
    return looping(x + 1) * 2


@pytest.mark.parametrize("fn", [looping, calls_looping])
def test_a_break_in_a_loop_has_the_time_of_the_whole_loop(fn: Callable[[Tensor], Tensor]) -> None:
    report = timed(fn)

    assert spent(report, "pause()") >= 3 * PAUSE
    assert spent(report, "torch._dynamo.graph_break()  # in helper") < PAUSE


def test_calls_with_other_inputs() -> None:
    calls = [Step((X,)), Step((X.double(),), recompiles=2)]

    report = audit_calls(paused_last, calls, backend="eager", time=True)

    assert report.times is not None
    assert PAUSE <= spent(report, "pause()") <= report.times.seconds


@torch.compiler.disable
def no_pause() -> None:
    pass


def pausing_or_not(x: Tensor, pausing: bool) -> Tensor:
    if pausing:
        pause()
        return x * 2
    no_pause()
    return x * 3


def test_a_recompiled_function_has_the_time_of_each_of_its_breaks() -> None:
    calls = [Step((X, False)), Step((X, True), recompiles=1)]

    report = audit_calls(pausing_or_not, calls, backend="eager", time=True)

    # A call is the mean of the two.
    assert spent(report, "pause()") >= PAUSE / 2 > spent(report, "no_pause()")


def lasting(seconds: float) -> TimedCall:
    return TimedCall(0.0, seconds, seconds, (GraphRun("0/0", 0.0, seconds / 2),))


def test_seconds_are_those_of_the_median_round() -> None:
    made = [[lasting(seconds)] for seconds in (9.0, 1.0, 8.0, 2.0, 3.0, 4.0)]

    found = timing.measurement(made, [])

    assert found is not None
    assert found.times == Times(5, seconds=3.0, graph_seconds=1.5)  # without the first round


def test_a_call_of_several_is_their_mean() -> None:
    found = timing.measurement([[lasting(3.0), lasting(1.0)]] * 6, [])

    assert found is not None
    assert found.times == Times(5, seconds=2.0, graph_seconds=1.0)


def test_rounds_that_run_other_graphs_do_not_count() -> None:
    same, other = (TimedCall(0.0, 1.0, 1.0, (GraphRun(name, 0.0, 1.0),)) for name in ("0/0", "0/1"))

    assert timing.measurement([[same], *[[same]] * 5, [other]], []) is not None
    assert timing.measurement([[same], *[[same]] * 4, [other]], []) is None


def test_graphs_that_overlap_have_no_gap() -> None:
    call = TimedCall(0.0, 9.0, 9.0, (GraphRun("0/0", 1.0, 4.0), GraphRun("1/0", 3.0, 6.0)))

    assert call.gaps() == [1.0, 0.0, 3.0]


def test_waiting_for_a_gpu_at_the_end_is_part_of_the_call_but_of_no_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "_wait", lambda: time.sleep(PAUSE))

    report = timed(ended_by_a_break)

    assert report.times is not None
    assert report.times.seconds >= PAUSE > spent(report, "torch._dynamo.graph_break()")


def ended_by_a_break(x: Tensor) -> Tensor:
    x = x * 2
    torch._dynamo.graph_break()
    return x


def test_an_inductor_graph_is_timed() -> None:
    report = audit(paused_last, (X,), backend="inductor", time=True)

    assert report.times is not None
    assert report.times.graph_seconds > 0


def counting() -> Callable[[Tensor], Tensor]:
    seen: list[int] = []

    def count(x: Tensor) -> Tensor:
        seen.append(0)
        return x + len(seen)

    return count


def raising_later() -> Callable[[Tensor], Tensor]:
    calls = 0

    @torch.compiler.disable
    def count() -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise IndexError("the cache is full")

    def fill(x: Tensor) -> Tensor:
        x = x * 2
        count()
        return x

    return fill


class Regional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Eager()
        self.block.compile(backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Eager(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (counting(), "repeated calls compile something new"),
        (lambda x: x, "no graph was captured"),
        (raising_later(), "a repeated call raised IndexError: the cache is full"),
        (Regional(), "the code compiles parts of itself"),
    ],
)
def test_a_note_says_why_nothing_was_measured(fn: Callable[[Tensor], Tensor], why: str) -> None:
    report = timed(fn)

    assert report.times is None
    assert report.notes[-1] == f"time: not measured: {why}"


def test_a_refused_graph_has_no_time() -> None:
    report = timed(paused_last, fullgraph=True)

    assert (report.times, report.notes) == (None, ())


def test_findings_do_not_depend_on_the_measurement() -> None:
    assert timed(slow_and_fast) == audit(slow_and_fast, (X,), backend="eager")


class Rows(nn.Module):
    """Fails after a few calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("used", torch.tensor(0))
        self.register_buffer("rows", torch.zeros(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.used.add_(1)
        return x + self.rows[self.used]


def test_gates_run_before_the_measurement_changes_the_state() -> None:
    report, plain = (
        audit(Rows(), (X,), backend="eager", gates={"opcheck"}, time=time) for time in (True, False)
    )

    assert report == plain
    assert report.notes[-1].startswith("time: not measured: a repeated call raised IndexError")


def test_a_small_share_is_not_zero() -> None:
    assert Times(5, 1.0, 0.5).share(0.001) == "under 1% of a call's time (1.0 of 1000.0 ms)"


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_reports_show_the_time(form: str) -> None:
    report = timed(paused_last)

    text = rendered(report, form)

    assert "of a call&#x27;s time (" in text or "of a call's time (" in text
    assert "in graphs (median of" in text


MODEL = """\
import time
import torch

def step(x):
    x = x * 2
    time.sleep(0.001)
    return x + 1

example_inputs = (torch.ones(3),)
"""


@pytest.mark.parametrize("where", ["option", "table", "nowhere"])
def test_the_command_measures_on_request(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slow.py").write_text(MODEL)
    table = "[tool.compile_checks]\ntargets = ['slow.py::step']\nbackend = 'eager'\n"
    Path("pyproject.toml").write_text(table + "time = true\n" * (where == "table"))

    assert __main__.main(["--json", "report.json", *["--time"] * (where == "option")]) == 1

    out = " ".join(capsys.readouterr().out.split())
    (case,) = json.loads(Path("report.json").read_text())["cases"]
    if where == "nowhere":
        assert "time:" not in out
        assert (case["times"], case["findings"][0]["seconds"]) == (None, None)
        return
    assert "of a call's time (" in out
    assert "time: a call spends " in out
    assert case["times"]["seconds"] > case["graph_breaks"][0]["seconds"] >= 0.001
    assert case["findings"][0]["seconds"] == case["graph_breaks"][0]["seconds"]


def test_a_watched_program_is_not_called_again(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["--time", "--watch", "program.py"])
    assert "argument --time: not allowed with --watch" in capsys.readouterr().err
