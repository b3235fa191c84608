"""The table of all rules. Each rule is one file: its meaning, its cause, its fix and its check.

Importing this module does not import torch: the checks that need torch import it when they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from compile_checks._engine.findings import Kind
from compile_checks.rules import (
    baseline_expired,
    baseline_vanished,
    cost_budget,
    crash,
    cudagraph_skip,
    disagreement,
    error,
    export,
    fallback,
    graph_break,
    graph_budget,
    graph_snapshot,
    host_sync,
    mismatch,
    missing_case,
    no_gradient,
    not_pt2_compliant,
    nothing_compiled,
    opcheck,
    recompile,
    recompile_limit,
    suppression,
    timeout,
)
from compile_checks.rules._rule import Rule

RULES: Final[Mapping[Kind, Rule]] = MappingProxyType(
    {
        module.RULE.id: module.RULE
        for module in (
            baseline_expired,
            baseline_vanished,
            cost_budget,
            crash,
            cudagraph_skip,
            disagreement,
            error,
            export,
            fallback,
            graph_break,
            graph_budget,
            graph_snapshot,
            host_sync,
            mismatch,
            missing_case,
            no_gradient,
            not_pt2_compliant,
            nothing_compiled,
            opcheck,
            recompile,
            recompile_limit,
            suppression,
            timeout,
        )
    }
)
"""Every rule by its id, in alphabetical order."""

KINDS: Final[Mapping[Kind, str]] = MappingProxyType(
    {kind: rule.summary for kind, rule in RULES.items()}
)
"""Every kind of finding and what it means."""
