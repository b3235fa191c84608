"""What recompiles have in common, and what to do about each cause."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

from compile_checks._engine.findings import Finding, Recompile
from compile_checks._engine.places import place_at
from compile_checks.rules._rule import Rule

_DIMENSION = re.compile(r"mismatch at index (\d+)|\.size\(\)\[(\d+)\]")
_NUMBER = re.compile(r"\d+")
_ONE = re.compile(r"\b(?:expected|actual) 1\b|== 1\b")
RESUMED = re.compile(r"torch_dynamo_resume_in_(.+)_at_(\d+)")
"""How Dynamo names the code that resumes a function after a break: its name and the line."""
STACK = "___stack"
"""How guards name the results of a break."""
_NOT_YOURS = ("dict.", "torch.", "___")
"""How names in a guard begin that are not the code's."""
_HELD = re.compile(r"\.(?:__(?:closure|defaults|kwdefaults)__|keywords|args)\[")
"""How a guard names what a function or a `functools.partial` holds."""
_SHOWN = 5


def by_cause(recompiles: Iterable[Recompile]) -> dict[Hashable, list[Recompile]]:
    """Groups recompiles: ten layers that read their own numbers have one cause.

    If a function was compiled again, what follows its breaks usually is for the same cause. Two
    functions that read one value at one line, in a helper that both call, have one cause too.
    """
    causes: dict[Hashable, list[Recompile]] = {}
    at_line: dict[Hashable, Hashable] = {}
    known = list(recompiles)
    for r in known:
        first = _resumed(r, known)
        what = first.argument or _NUMBER.sub("#", first.guard)
        changed = first.category, what, _dimension(first.guard)
        cause: Hashable = (first.file, first.line, *changed)
        if first.guard_file:
            cause = at_line.setdefault((first.guard_file, first.guard_line, *changed), cause)
        causes.setdefault(cause, []).append(r)
    return causes


def _resumed(recompile: Recompile, others: Iterable[Recompile]) -> Recompile:
    """Returns the recompile of the function that a frame resumes, in the same category."""
    resumed = RESUMED.fullmatch(recompile.frame)
    if resumed is None:
        return recompile
    functions = (
        r
        for r in others
        if (r.file, r.frame, r.category) == (recompile.file, resumed[1], recompile.category)
        and r.line <= recompile.line  # the same line if all of the function is on one line
    )
    return max(functions, key=lambda r: r.line, default=recompile)


def finding_of(
    rule: Rule, recompiles: Sequence[Recompile], prefix: str = "", hints: Iterable[str] = ()
) -> Finding:
    """Returns one finding for recompiles of one cause, at the line that reads what changed."""
    first = next((r for r in recompiles if r.guard_file), recompiles[0])
    place = (first.guard_file, first.guard_line) if first.guard_file else (first.file, first.line)
    if not first.guard_file and first.owner in ("torch", "python"):
        place = "", 0  # of the audited function, which a wrapper of PyTorch's calls
    guards = list(dict.fromkeys(r.guard for r in recompiles))
    lines = [prefix + first.guard]
    if len(guards) > 1:
        lines += ["guards that failed:", *[f"  {guard}" for guard in guards[:_SHOWN]]]
    if len(guards) > _SHOWN:
        lines.append(f"  and {len(guards) - _SHOWN} more")
    advised = dict.fromkeys(
        [advice(first, place_at(*place).source), *[r.hint for r in recompiles], *hints]
    )
    found = rule.finding(
        "\n".join(lines),
        "\n".join(filter(None, advised)),
        guard=first.guard,
        argument=first.argument,
        category=first.category,
    )
    return replace(place_at(*place).of(found), count=len(recompiles))


def advice(recompile: Recompile, source: str = "") -> str:
    """Returns what to do about a recompile: the line to add, if one helps.

    Args:
        source: the line that reads what changed.

    >>> guard = "tensor 'x' size mismatch at index 0. expected 3, actual 4"
    >>> advice(Recompile((guard,), "", 0, category="size", guard=guard, argument="x"))[:50]
    'before the call: torch._dynamo.mark_dynamic(x, 0),'
    """
    r = recompile
    named = [n for n in r.argument.split(", ") if n and not n.startswith(_NOT_YOURS)]
    what = named[0].removesuffix(".__code__") if named else "what the guard reads"
    if not named and r.argument.startswith(STACK):
        return "this is the result of the graph break before it: remove that break"
    if "___from_numpy(" in r.guard and r.category == "size":
        return f"torch.compile(..., dynamic=True); or pass a tensor: torch.from_numpy({what})"
    branches = source.startswith(("if ", "elif ", "while "))
    if branches and r.category in ("size", "int", "float"):
        return (
            f"the line branches on {what}, so each side is a graph: allow a recompile for each in "
            "a budget, or compute both with torch.where or torch.cond"
        )
    match r.category:
        case "size":
            return _size_advice(what, r.guard)
        case "stride":
            return f"give it one memory layout in every call: {what} = {what}.contiguous()"
        case "dtype":
            return f"convert it to one dtype before the call: {what} = {what}.to(torch.float32)"
        case "requires_grad":
            return (
                f"give it the same requires_grad in every call: {what}.requires_grad_(), "
                f"or {what} = {what}.detach() where no gradient is needed"
            )
        case "int" | "float":
            is_global = any(f"G['{what}']" in reason for reason in r.reasons)
            return _number_advice(what, r.category == "int" and not is_global, source)
        case "object identity":
            return _object_advice(what, r.guard)
        case "global state":
            return (
                "make every call in one state: grad mode, autocast, default dtype, "
                "deterministic algorithms, number of threads"
            )
        case _:
            return f"keep {what} the same in every call, or allow a recompile for each value"


def _size_advice(tensor: str, guard: str) -> str:
    dimension = _dimension(guard)
    if "rank mismatch" in guard:
        return f"pass {tensor} with the same number of dimensions in every call: unsqueeze it"
    if dimension is None and "." in tensor:
        return f"keep {tensor} at one length: add all of its items before the first call"
    if dimension is None:
        return (
            f"pass {tensor} with the same length in every call, a dict with the same keys; "
            "or stack it in a tensor"
        )
    if _ONE.search(guard):
        return (
            f"before the call: torch._dynamo.decorators.mark_unbacked({tensor}, {dimension}), and "
            "so for each tensor that has this size, because a size of 1 is compiled in as a "
            "constant even if it is marked dynamic"
        )
    return (
        f"before the call: torch._dynamo.mark_dynamic({tensor}, {dimension}), and so for each "
        "tensor that has this size; or torch.compile(..., dynamic=True)"
    )


def _number_advice(number: str, can_be_dynamic: bool, source: str) -> str:
    if held := _HELD.search(number):
        return (
            f"pass the same function as {number[: held.start()]} in every call, or one that holds "
            "a tensor instead of the number"
        )
    if f"[{number}]" in source:
        return (
            "a list is indexed by a constant: pass the item itself, or stack the items in a tensor "
            f"and make {number} a tensor"
        )
    if f"range({number}" in source:
        return f"the loop is unrolled, a graph for each {number}: allow a recompile for each"
    if ".param_groups[" in number:
        option = number.rpartition("['")[2].removesuffix("']")
        return f"pass a tensor to the optimizer: {option}=torch.tensor(...)"
    if "." in number:
        return (
            f"make it a tensor, in a module with register_buffer: {number} = torch.tensor({number})"
        )
    dynamic = "torch.compile(..., dynamic=True); or " if can_be_dynamic else ""
    return f"{dynamic}pass a tensor instead of the number: {number} = torch.tensor({number})"


def _object_advice(what: str, guard: str) -> str:
    if "None" in guard:
        return f"pass {what} in every call or in none, or allow a recompile for each"
    if "Duplicate" in guard:
        return f"pass different tensors as {what} and the other in every call, or the same always"
    if "___check_type_id" in guard or "expected type" in guard:
        return f"pass {what} with the same type in every call"
    return f"create {what} once, outside the compiled function, and pass the same object"


def _dimension(guard: str) -> int | None:
    found = _DIMENSION.search(guard)
    return int(found[1] or found[2]) if found else None
