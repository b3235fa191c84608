"""The comparison of audits with PyTorch's log would find a difference."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compile_checks import against_logs
from tests.compile_checks.against_logs import Comparison, differences, read_log

FILE = "/env/site-packages/x/model.py"
BREAK = "V1128 06:53:32.577000 3273 torch/_dynamo/symbolic_convert.py:5124] [0/0] [__graph_breaks] "
AGAIN = "V1128 06:53:34.751000 3273 torch/_dynamo/guards.py:5396] [0/1] [__recompiles] "
LOG = f"""\
{BREAK}Graph break in user code at {FILE}:3
{BREAK}Graph Break Reason: Encountered graph break when attempting to trace CALL: a function call:
{BREAK}
{BREAK}Call to `torch._dynamo.graph_break()`
{BREAK}  Explanation: User-inserted graph break. Message: None
a line of the model itself
{BREAK}Graph break in user code at {FILE}:8
{BREAK}Graph Break Reason: Data-dependent branching
{BREAK}    - 9/9: not a guard
{AGAIN}Recompiling function f in {FILE}:6
{AGAIN}    triggered by the following guard failure(s):
{AGAIN}    - 0/1: ___check_obj_id(n, 140352)        # return x * n
{AGAIN}    - User stack trace:
{AGAIN}    -   File "model.py", line 4, in f
{AGAIN}    - 0/0: ___check_obj_id(n, 140352987654321)
"""
BREAKS = [
    (FILE, 3, "Call to `torch._dynamo.graph_break()`"),
    (FILE, 8, "Data-dependent branching"),
]
GUARDS = ["0/0: ___check_obj_id(n, ...)", "0/1: ___check_obj_id(n, 140352)        # return x * n"]
RECOMPILED = (FILE, 6, "f", *GUARDS)


def test_the_log_is_read() -> None:
    assert read_log(LOG) == (BREAKS, [RECOMPILED])
    assert read_log("") == ([], [])


def audited(**changes: Any) -> dict[str, Any]:
    """What an audit that equals the log found, but for the changes."""
    return {"breaks": BREAKS, "recompiles": [[*RECOMPILED]], "findings": [], **changes}


def test_an_audit_that_equals_the_log() -> None:
    assert [*differences(BREAKS, [RECOMPILED], audited())] == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"breaks": BREAKS[:1]}, "reasons: "),
        ({"breaks": [*BREAKS, BREAKS[0]]}, "reasons: "),
        ({"breaks": [BREAKS[0], (FILE, 8, "another reason")]}, "reasons: "),
        ({"breaks": [BREAKS[0], (FILE, 9, BREAKS[1][2])]}, "places: "),
        ({"breaks": [(FILE, 8, BREAKS[0][2]), (FILE, 3, BREAKS[1][2])]}, "places: "),
        ({"recompiles": []}, "recompiles: "),
        ({"recompiles": [[*RECOMPILED], [*RECOMPILED]]}, "recompiles: "),
        ({"recompiles": [[FILE, 7, *RECOMPILED[2:]]]}, "recompiles: "),
        ({"recompiles": [[*RECOMPILED[:-1], "0/1: another guard"]]}, "recompiles: "),
    ],
)
def test_each_difference_is_found(changes: dict[str, Any], problem: str) -> None:
    found, *_ = differences(BREAKS, [RECOMPILED], audited(**changes))
    assert found.startswith(problem)


def test_a_break_of_pytorch_may_have_another_place() -> None:
    inside = ("/env/site-packages/torch/nn/functional.py", 70, BREAKS[1][2])
    assert [*differences([BREAKS[0], inside], [RECOMPILED], audited())] == []


def test_a_finding_without_a_line_in_the_log_is_a_false_alarm() -> None:
    alarm = {"breaks": [], "recompiles": [], "findings": [["mismatch", "differs"]]}
    (found,) = differences([], [], alarm)
    assert found.startswith("findings without a line in the log: ")


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against_logs, "installed", lambda: {"timm": "1.0", "geometric": "2.8"})
    same = Comparison("forward", "equal", "", breaks=2, recompiles=1)
    other = Comparison("training", "different", "", breaks=3)
    skipped = Comparison("forward", "skipped", "")
    results = {"timm/vit": [same, other], "timm/deit": [same], "geometric/GAT": [skipped]}

    assert [*against_logs.table(["timm", "geometric"], results)][2:] == [
        "| timm 1.0 | 2 | 3 | 7 | 2 | 2 | 1 | 0 |",
        "| torch_geometric 2.8 | 1 | 1 | 0 | 0 | 0 | 0 | 1 |",
    ]
