"""Runs code under `torch.compile` and judges what Dynamo did with it.

A graph break does not fail, it only makes a model slower. Nor does a frame that Dynamo gave up on,
or a function that it never saw. All three are findings here, so that a test can assert `report.ok`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch._dynamo
from torch.utils._pytree import tree_leaves

from compile_checks.findings import AuditReport, Finding, GraphBreak, Recompile
from compile_checks.trace import Compilation, Trace, record

Call = tuple[Sequence[Any], Mapping[str, Any]]
"""The positional and the keyword arguments of one call."""


@dataclass(frozen=True)
class Case:
    """An audit with a name. The other fields are the arguments of `audit_calls`."""

    name: str
    fn: Callable[..., Any]
    calls: Sequence[Call]
    dynamic: bool | None = None
    backward: bool = False
    max_graphs: int | None = None
    covers: str = ""
    """What this case stands for, where each of a list of things must have one."""

    def run(self) -> AuditReport:
        """Audits it. An exception is a finding too, so that the other cases still run."""
        try:
            return audit_calls(
                self.fn,
                self.calls,
                dynamic=self.dynamic,
                backward=self.backward,
                max_graphs=self.max_graphs,
            )
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            return AuditReport(findings=(Finding("error", message),))


class Watch:
    """What Dynamo did since a `watch()` block began."""

    def __init__(self, trace: Trace, max_graphs: int | None) -> None:
        self._trace = trace
        self._max_graphs = max_graphs

    def report(self) -> AuditReport:
        """Judges what was recorded so far."""
        return judge(self._trace.compilations, self._max_graphs)


@contextmanager
def watch(*, max_graphs: int | None = None) -> Iterator[Watch]:
    """Records what Dynamo does within a block, whoever compiles there.

    Args:
        max_graphs: how many graphs the block may cost, recompiles included. `None`: as many as its
            code needs, but no recompile.

    >>> import torch
    >>> with watch() as watched:
    ...     _ = torch.compile(torch.nn.ReLU(), backend="eager")(torch.ones(3))
    >>> watched.report().ok, watched.report().graphs
    (True, 1)
    """
    with record() as trace:
        yield Watch(trace, max_graphs)


def audit(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: bool | None = None,
    backward: bool = False,
    backend: str | Callable[..., Any] = "aot_eager",
) -> AuditReport:
    """Compiles a function or module, calls it twice with the same inputs and judges what happened.

    Args:
        fn: what to audit. It is compiled in default mode, where a graph break is no error.
        args, kwargs: the inputs of both calls.
        dynamic: as in `torch.compile`.
        backward: whether to back-propagate the sum of all floating outputs that require grad. As
            with any backward, gradients are added to `.grad`.
        backend: a backend of `torch.compile`. Graph breaks do not depend on it; `"aot_eager"` adds
            functionalisation and the fake kernels of ops.

    Returns:
        A report that is `ok` where all code went into graphs, and the second call ran those of the
        first.

    Raises:
        Exception: what `fn` raises. As after any audit, the compiler is reset and all that was set
            for it is as before.

    >>> import torch
    >>> audit(torch.nn.ReLU(), (torch.ones(3),)).ok
    True
    >>> print(audit(torch.nn.Identity(), (torch.ones(3),)))
    nothing-compiled: no graph was compiled
    """
    call = (args, kwargs or {})
    return audit_calls(fn, [call], dynamic=dynamic, backward=backward, backend=backend)


def audit_calls(
    fn: Callable[..., Any],
    calls: Sequence[Call],
    *,
    dynamic: bool | None = None,
    backward: bool = False,
    backend: str | Callable[..., Any] = "aot_eager",
    max_graphs: int | None = None,
) -> AuditReport:
    """Audits a sequence of calls, made twice over. The arguments are those of `audit`, and:

    Args:
        calls: pairs `(args, kwargs)`.
        max_graphs: how many graphs all calls may cost together, recompiles included. With
            `dynamic=None` the first change of a shape rightly recompiles, so that calls of several
            shapes need such a budget. `None`: as many as the code needs, but no recompile.

    >>> import torch
    >>> calls = [((torch.ones(n),), {}) for n in (3, 4, 5)]
    >>> print(audit_calls(torch.nn.ReLU(), calls, max_graphs=2))
    ok
    >>> print(audit_calls(torch.nn.ReLU(), calls, max_graphs=1))
    graph-budget: 2 graphs compiled, at most 1 expected
    """
    torch.compiler.reset()
    try:
        with watch(max_graphs=max_graphs) as watched, _reported_not_raised():
            compiled = torch.compile(fn, dynamic=dynamic, backend=backend)
            gradients = [_run(compiled, call, backward) for call in (*calls, *calls)]
        report = watched.report()
    finally:
        torch.compiler.reset()
    if backward and not all(gradients):
        finding = Finding("no-gradient", "no output requires grad: no backward was audited")
        report = replace(report, findings=(*report.findings, finding))
    return report


def judge(compilations: Sequence[Compilation], max_graphs: int | None = None) -> AuditReport:
    """What is wrong with these compilations."""
    started = [compilation for compilation in compilations if compilation.started]
    graphs = sum(compilation.has_graph for compilation in started)
    breaks = tuple(b for compilation in started for b in compilation.breaks)
    recompiles = tuple(
        Recompile(c.recompile_reasons, c.file, c.line)
        for c in started
        if c.recompile_reasons is not None
    )
    findings = [
        *_merged(breaks),
        *_left_to_eager(compilations),
        *_beyond_budget(graphs, recompiles, max_graphs),
    ]
    if graphs == 0:
        findings.append(Finding("nothing-compiled", "no graph was compiled"))
    return AuditReport(graphs, breaks, recompiles, tuple(findings))


def _merged(breaks: Iterable[GraphBreak]) -> list[Finding]:
    """One finding for each place and reason, in the order in which they were first met."""
    counts = Counter(replace(b, compile_id="") for b in breaks)
    return [
        Finding(
            "graph-break",
            b.reason,
            hint=b.hint,
            gb_id=b.gb_id,
            file=b.file,
            line=b.line,
            source=b.source,
            owner=b.owner,
            count=count,
        )
        for b, count in counts.items()
    ]


def _left_to_eager(compilations: Iterable[Compilation]) -> Iterator[Finding]:
    for c in compilations:
        if c.failure is not None and not c.started:
            message = f"left to eager mode: {'; '.join(c.recompile_reasons or ())}"
            yield Finding("recompile-limit", message, file=c.file, line=c.line)
        elif c.failure is not None and not c.breaks:
            yield Finding("fallback", c.failure, file=c.file, line=c.line)


def _beyond_budget(
    graphs: int, recompiles: Iterable[Recompile], max_graphs: int | None
) -> Iterator[Finding]:
    if max_graphs is None:
        for r in recompiles:
            yield Finding("recompile", "; ".join(r.reasons), file=r.file, line=r.line)
    elif graphs > max_graphs:
        yield Finding("graph-budget", f"{graphs} graphs compiled, at most {max_graphs} expected")


def _run(fn: Callable[..., Any], call: Call, backward: bool) -> bool:
    """Makes a call, and says whether there was something to back-propagate."""
    args, kwargs = call
    result = fn(*args, **kwargs)
    if not backward:
        return False
    outputs = [
        leaf.sum()
        for leaf in tree_leaves(result)
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad and leaf.is_floating_point()
    ]
    if outputs:
        torch.autograd.backward(outputs)
    return bool(outputs)


@contextmanager
def _reported_not_raised() -> Iterator[None]:
    """A caller may have told Dynamo to raise at a recompile; an audit reports it instead."""
    with torch._dynamo.config.patch(error_on_recompile=False, fail_on_recompile_limit_hit=False):
        yield
