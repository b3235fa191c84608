"""Custom ops that fail `torch.library.opcheck`. Checked by the gate `opcheck`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

if TYPE_CHECKING:
    from compile_checks._engine.capture import Capture
    from compile_checks._engine.scenarios import Step

RULE = Rule(
    id="opcheck",
    summary="a custom op in the graph fails torch.library.opcheck",
    cause="A custom op violates the contract of `torch.library`: its schema, fake kernel or "
    "autograd registration is wrong.",
    fix="The reason names the check that failed. Fix that part of the op's registration.",
)
_HINT = "https://docs.pytorch.org/docs/stable/library.html#torch.library.opcheck"


def check(fn: Callable[..., Any], step: Step, captures: Iterable[Capture]) -> Iterator[Finding]:
    """Yields a finding for each check that a custom op in the graphs fails.

    The code runs once in eager mode to get the inputs of the ops.
    """
    import torch

    from compile_checks._engine.recorder import Recorder

    wanted = {op for capture in captures for op in capture.custom_ops}
    with Recorder(wanted) as recorder, torch.compiler.set_stance("force_eager"):
        fn(*step.args, **step.kwargs)
    for op, args, kwargs in recorder.calls:
        results = torch.library.opcheck(op, args, kwargs, raise_exception=False)
        for utility, error in results.items():
            if error != "SUCCESS":
                yield RULE.finding(f"{op}: {utility}: {error}", _HINT)
