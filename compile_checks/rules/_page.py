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

## The order of findings

Errors and wrong results come first, then graph breaks, those first that cost most: by the time
that `--time` measures, or else by the ops of the graphs on both sides. Other kinds follow. A
finding that would certainly not exist without another one is a **consequence**, listed below the
first cause:

- `nothing-compiled`, if a graph break or a `fallback` makes a whole function run in eager mode;
- `graph-budget`, if there would be few enough graphs without breaks, and nothing was recompiled;
- `recompile` or `recompile-limit`, if what changed is the result of a graph break;
- `cost-budget`, if the function was compiled too often because of a finding for recompiles;
- `disagreement`, if one of PyTorch's counters lacks a graph break.

Consequences count like any other finding, in every format. In the JSON report, `caused_by` is the
`number` of the cause.

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
