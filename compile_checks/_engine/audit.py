"""Audits a function or module: compiles it, calls it and reports what Dynamo did.

A graph break raises no error; it only makes a model slower. The same is true of a frame that Dynamo
gave up on and of a function that it never compiled. The audit reports all of them as findings, so
that a test can assert `report.ok`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compile_checks._engine.capture import Backend, CapturingBackend, backend_name
from compile_checks._engine.costs import UNLIMITED, Limits
from compile_checks._engine.findings import AuditReport, Mode
from compile_checks._engine.gates import DEFAULT_GATES, ExpectedGraph, Gate, check_names
from compile_checks._engine.ranking import ranked
from compile_checks._engine.recording import record
from compile_checks._engine.run import Run
from compile_checks._engine.scenarios import Calls
from compile_checks._engine.state import clean_compiler
from compile_checks._engine.timing import Stopwatch


def audit(
    fn: Callable[..., Any],
    args: Sequence[Any] | Mapping[str, Any] | Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: bool | None = None,
    backward: bool = False,
    backend: Backend = "aot_eager",
    fullgraph: bool = False,
    compare: bool = True,
    gates: Collection[Gate] = DEFAULT_GATES,
    expected_graph: ExpectedGraph | None = None,
    time: bool = False,
) -> AuditReport:
    """Compiles a function or module, calls it twice with the same inputs and returns a report.

    The calls change the code's state as any calls do, for example the buffers of `BatchNorm`. A
    module that compiles parts of itself is called as it is: the report is about those parts, and a
    note says so.

    Args:
        fn: the function or module to audit.
        args, kwargs: the inputs of both calls. `args` may also be a tensor, which is then the only
            argument, or a mapping of keyword arguments.
        dynamic: as in `torch.compile`.
        backward: if True, back-propagates the sum of all floating-point outputs that require grad.
            As usual, gradients accumulate in `.grad`.
        backend: a backend of `torch.compile`. What Dynamo can trace does not depend on it. But a
            backend may reject a graph, which is a break too. `"eager"` rejects none; `"aot_eager"`
            adds functionalization and the fake kernels of ops.
        fullgraph: as in `torch.compile`. A break ends the audit and becomes a finding.
        compare: if True, also runs the code in eager mode, on copies of the inputs and the module,
            and compares results, gradients and mutated inputs. Other tensors that the code holds
            start from the same contents. Integers and booleans must be equal.
            Floating-point tensors may differ by 1e-9 (float64), 1e-4 (float32), 1e-2 (float16) or
            4e-2 (bfloat16) times the largest magnitude in the tensor.
        gates: optional checks: "cudagraph", "export", "host-sync", "opcheck" and "pt2". The default
            is only "pt2", which costs nothing: every op must have the tag `pt2_compliant_tag`.
        expected_graph: the expected graph, either its canonical text or its ops and their counts.
            See `captured_graphs` of a report for both forms.
        time: if True, makes the calls again, several times, and reports how long a call takes and
            how long it is in Python at each graph break.

    Returns:
        A report. It is `ok` if all code was compiled into graphs and the second call reused the
        graphs of the first. Its `notes` say what could not be checked, such as results that differ
        between two eager runs.

    Raises:
        TypeError: if `fn` is an async function. Calling it would only create a coroutine.
        ValueError: for an unknown gate.
        Exception: anything that `fn` raises. The compiler is still reset and its settings are
            restored.

    >>> import torch
    >>> audit(torch.nn.ReLU(), (torch.ones(3),)).ok
    True
    >>> print(audit(torch.nn.Identity(), (torch.ones(3),)))
    nothing-compiled: no graph was compiled
    """
    positional: Sequence[Any] = ()
    named = dict(kwargs or {})
    if isinstance(args, Tensor):
        positional = (args,)
    elif isinstance(args, Mapping):
        named = {**args, **named}
    else:
        positional = args
    return audit_calls(
        fn,
        [(positional, named)],
        dynamic=dynamic,
        backward=backward,
        backend=backend,
        fullgraph=fullgraph,
        compare=compare,
        gates=gates,
        expected_graph=expected_graph,
        time=time,
    )


def audit_calls(
    fn: Callable[..., Any],
    calls: Calls,
    *,
    dynamic: bool | None = None,
    backward: bool = False,
    backend: Backend = "aot_eager",
    max_graphs: int | None = None,
    limits: Limits = UNLIMITED,
    fullgraph: bool = False,
    compare: bool = True,
    gates: Collection[Gate] = DEFAULT_GATES,
    expected_graph: ExpectedGraph | None = None,
    time: bool = False,
) -> AuditReport:
    """Audits a sequence of calls, which it runs twice. See `audit` for the other arguments.

    Args:
        calls: `Step`s, each with its own budget of recompiles; or pairs `(args, kwargs)`, which may
            recompile nothing; or a function that creates either, called for each round of calls.
        max_graphs: the number of graphs that all calls together may compile, recompiles included.
            If given, it replaces the budgets of the steps. `None` sets no limit.
        limits: how often each function may be compiled, how many guards it may have, and how many
            seconds its compilations may take.

    >>> import torch
    >>> from compile_checks import Step
    >>> calls = [Step([torch.ones(3)]), Step([torch.ones(4)], recompiles=1), Step([torch.ones(5)])]
    >>> print(audit_calls(torch.nn.ReLU(), calls))
    ok
    >>> print(audit_calls(torch.nn.ReLU(), calls, max_graphs=1))
    graph-budget: 2 graphs compiled, at most 1 expected
    """
    check_names(gates, backend)
    check_callable(fn)
    mode = Mode(fullgraph, dynamic, backward, backend_name(backend))
    with clean_compiler(), record() as trace:
        capturing = CapturingBackend(backend, stopwatch=Stopwatch() if time else None)
        run = Run(fn, mode, capturing, trace, compare, frozenset(gates))
        run.make(calls)
        report = run.report(max_graphs, limits)
        run.check_graph(report.captured_graphs, expected_graph)
        run.check_gates(calls)
        # Last, because more calls change the state of the code, such as how full a cache is.
        report = run.measured(report, calls)
    findings = (*report.findings, *run.findings)
    whole = replace(report, findings=findings, mode=mode, notes=run.all_notes())
    return ranked(whole, max_graphs)


def check_callable(fn: Callable[..., Any]) -> None:
    """Raises a `TypeError` for an async function: a call would run none of its code."""
    if inspect.iscoroutinefunction(fn.forward if isinstance(fn, torch.nn.Module) else fn):
        name = getattr(fn, "__name__", type(fn).__name__)
        raise TypeError(f"fn: expected a callable that returns results, got async function {name}")
