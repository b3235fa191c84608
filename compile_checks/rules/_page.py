"""Generates the page that describes every rule."""

from __future__ import annotations

from compile_checks.rules import RULES

_HEAD = """\
# Every kind of finding, its cause and its fix

`python -m compile_checks.rules --write` generates this page from `compile_checks/rules/`, one file
per kind. SARIF's rules and the HTML report use the same text.

| kind | what it means | cause | what to do |
| --- | --- | --- | --- |
"""
_TAIL = """
## What a finding contains

- The **reason** is PyTorch's headline on the first line, followed by its details. The **hint** is
  PyTorch's advice, and **gb_id** links to PyTorch's page on that kind of graph break.
- The **place** is the innermost line outside PyTorch and the standard library: the line that you
  can change. The **owner** says whose code broke: `yours`, `torch`, `python` or a package.
- The **count** says how many times the same line caused the finding. A helper with one break that
  is called twice counts three times: once at each place where it is inlined, and once when it is
  compiled separately.
- A break in a library also has the line of yours that leads to it, **called from**.
- The finding for a recompile has the **guard** that failed, its **argument**, and what **changed**:
  size, stride, dtype, requires_grad, int, float, object identity or global state. Recompiles of one
  cause are one finding: of ten layers that read their own number, say. Its place is the line that
  reads what changed, if PyTorch names it, or else the first line of the frame; for a frame of
  PyTorch, your line that calls it. Its first hint is what to change; PyTorch's own advice follows.
  If the frame reached the recompile limit, the finding is a `recompile-limit` with all of these
  recompiles.

## What is not a finding

Recompiles within a budget (`--budget`, the `recompiles` of a `Step`, the `max_graphs` of a case)
are counted in the table and listed in the JSON report, but they are not findings. A **note** on the
case names each check that the audit could not run. Examples are host syncs without a GPU, and a
detector that needs a private API that this release of PyTorch does not have.
"""


def page() -> str:
    """Returns the page as Markdown."""
    rows = [
        f"| `{rule.id}` | {rule.summary} | {rule.cause} | {rule.fix} |" for rule in RULES.values()
    ]
    return "\n".join([_HEAD.rstrip("\n"), *rows, _TAIL])
