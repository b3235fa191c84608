"""Custom ops without the tag `pt2_compliant_tag`. Checked by the gate `pt2`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from compile_checks._engine.findings import Finding
from compile_checks.rules._rule import Rule

if TYPE_CHECKING:
    from compile_checks._engine.capture import Capture

RULE = Rule(
    id="not-pt2-compliant",
    summary="an op in the graph is not tagged as compliant with torch.compile",
    cause="The author of a custom op has not tagged it as compliant with `torch.compile`.",
    fix="Check the op with `torch.library.opcheck`, then define it with "
    "`tags=torch.Tag.pt2_compliant_tag`.",
)
_HINT = "check it with torch.library.opcheck, then tag it torch.Tag.pt2_compliant_tag"


def check(captures: Iterable[Capture]) -> Iterator[Finding]:
    """Yields a finding for each custom op in the graphs that lacks the tag."""
    import torch

    for op in dict.fromkeys(op for capture in captures for op in capture.custom_ops):
        if torch.Tag.pt2_compliant_tag not in op.tags:
            yield RULE.finding(f"{op} has no pt2_compliant_tag", _HINT)
