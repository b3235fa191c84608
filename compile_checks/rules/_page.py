"""Generates the page that describes every rule."""

from __future__ import annotations

from compile_checks.rules import RULES

_HEAD = """\
# Every kind of finding, its cause and its cure

`python -m compile_checks.rules --write` generates this page from `compile_checks/rules/`, one file
per kind. SARIF's rules and the HTML report have the same texts.

| kind | what it means | cause | what to do |
| --- | --- | --- | --- |
"""
_TAIL = """
## What a finding contains

- The **reason** is PyTorch's headline on the first line, followed by its details. The **hint** is
  PyTorch's advice, and **gb_id** leads to PyTorch's page on that kind of graph break.
- The **place** is the innermost line outside PyTorch and the standard library: the line that you
  can change. The **owner** is the owner of the code that broke: `yours`, `torch`, `python` or a
  package.
- The **count** merges what a single line causes. A helper with one break that is called twice
  breaks three times: at each place where it is inlined, and once on its own.
- For a recompile, a finding has the **guard** that failed, its **argument**, and what **changed**:
  size, stride, dtype, requires_grad, int, float, object identity or global state.

## What is not a finding

Recompiles within a budget (`--budget`, the `recompiles` of a `Step`, the `max_graphs` of a case)
are counted in the table and listed in the JSON report, but they are not findings. What the audit
could not check is a **note** of the case, for example host syncs without a GPU, or a detector that
needs a private API that this release of PyTorch does not have.
"""


def page() -> str:
    """Returns the page as Markdown."""
    rows = [
        f"| `{rule.id}` | {rule.summary} | {rule.cause} | {rule.cure} |" for rule in RULES.values()
    ]
    return "\n".join([_HEAD.rstrip("\n"), *rows, _TAIL])
