"""Code that `torch.export` rejects. Checked by the gate `export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from compile_checks._engine.findings import Finding
from compile_checks._engine.places import place_of_error
from compile_checks.rules._rule import Rule

if TYPE_CHECKING:
    from compile_checks._engine.scenarios import Step

RULE = Rule(
    id="export",
    summary="torch.export rejects the code",
    cause="`torch.export` needs one graph of the whole function, with shapes that it can express.",
    fix="Remove the graph breaks first. Then mark dynamic dimensions and use `torch._check`.",
)
_HINT = "torch.export needs one graph of the whole function for any data"


def check(fn: Callable[..., Any], step: Step) -> Iterator[Finding]:
    """Yields a finding if `torch.export.export` rejects the code with the inputs of a call."""
    import torch

    class Exported(torch.nn.Module):  # torch.export accepts only modules
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

    module = fn if isinstance(fn, torch.nn.Module) else Exported()
    try:
        torch.export.export(module, tuple(step.args), dict(step.kwargs))
    except Exception as error:
        finding = RULE.finding(f"{type(error).__name__}: {str(error).strip()}", _HINT)
        yield place_of_error(error).of(finding)
