"""Audits of tiny random Hugging Face models.

The expected findings were derived by hand from `TORCH_LOGS=graph_breaks,recompiles`, for the same calls
without the audit, with torch 2.13.0 and transformers 5.23.0:

- encoder, vision model, and mixture of experts with its default implementation: no line in the log;
- decoder: two recompiles, `0/1` for the number of new tokens (5, then 1) and `0/2` for the length of the
  cached keys (5, then 6);
- mixture of experts as a Python loop: twelve breaks, `[0/0]` to `[14/0]`. Ten are at the `nonzero` that
  finds the active experts, once for each frame that it is inlined into and for the resume functions. One
  is in the wrapper that collects outputs, and one at the branch on an expert's number. There is one
  recompile, `15/1`, for the number of tokens of an expert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from compile_checks import AuditReport, Step, audit_calls
from tests.compile_checks.install import ROOT
from tests.compile_checks.samples import models

# CI installs the extra [dev], which has transformers and mypy. The extra [test] has neither, and these
# tests may be skipped only with [test].
if find_spec("mypy") is None:
    pytest.importorskip("transformers", reason="needs the extra [transformers]")
import transformers

READ = {"torch": "2.13.0", "transformers": "5.23.0"}
# With other versions, the same models may break at other lines, which nobody has reviewed.
AS_READ = (torch.__version__.partition("+")[0], transformers.__version__) == (*READ.values(),)
pytestmark = pytest.mark.filterwarnings("ignore")  # ignore the warnings of transformers


def audited(name: str, **options: Any) -> AuditReport:
    model, inputs = getattr(models, name)()
    if isinstance(inputs, Mapping):
        calls: Any = [((), inputs)]
    elif callable(inputs):
        calls = lambda: [((), kwargs) for kwargs in inputs()]  # noqa: E731
    else:
        calls = [(inputs, {})]
    return audit_calls(model, calls, **options)


def test_ci_has_the_versions_that_were_read() -> None:
    """With other versions, CI would silently skip the tests below."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()

    assert {f"{name}=={version}" for name, version in READ.items()} <= {*pins}


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("name", ["encoder", "mixture", "vision"])
def test_models_without_a_line_in_the_log_are_clean(name: str, fullgraph: bool) -> None:
    report = audited(name, fullgraph=fullgraph)

    assert report.ok, report
    assert report.graphs == 1
    assert report.notes == ()


@pytest.mark.parametrize("name", ["encoder", "vision"])
def test_they_are_clean_when_trained(name: str) -> None:
    report = audited(name, backward=True)

    assert report.ok, report
    assert report.notes == ()


@pytest.mark.skipif(not AS_READ, reason="read with other versions")
def test_a_decoder_recompiles_for_prefill_and_for_its_cache() -> None:
    report = audited("decoder")

    assert report.graph_breaks == ()
    assert [(r.compile_id, r.category, r.argument) for r in report.recompiles] == [
        ("0/1", "size", "input_ids"),
        ("0/2", "size", "past_key_values.layers[0].keys"),
    ]
    assert [f.hint.splitlines()[-1] for f in report.findings] == [
        "call 2 had 1 recompile, at most 0 expected",
        "call 3 had 1 recompile, at most 0 expected",
    ]
    assert {finding.owner for finding in report.findings} == {"transformers"}
    assert report.notes == ()


def test_a_decoder_within_its_budget_is_clean() -> None:
    model, calls = models.decoder()

    def steps() -> list[Step]:
        budgets = (0, 1, 1, 0)
        return [Step((), kwargs, n) for kwargs, n in zip(calls(), budgets, strict=True)]

    report = audit_calls(model, steps)

    assert report.ok, report
    assert report.notes == ()


@pytest.mark.skipif(not AS_READ, reason="read with other versions")
def test_a_loop_over_experts_breaks_where_the_log_says() -> None:
    report = audited("mixture_eager")

    sources = Counter(graph_break.source for graph_break in report.graph_breaks)
    assert sources == {
        "expert_hit = torch.greater(expert_mask.sum(dim=(-1, -2)), 0).nonzero()": 10,
        "recordable_keys = {": 1,
        "if expert_idx == self.num_experts:": 1,
    }
    breaks = [f for f in report.findings if f.kind == "graph-break"]
    assert [(f.count, f.gb_id) for f in breaks] == [(10, "GB0036"), (1, "GB4347"), (1, "GB7000")]
    assert {finding.owner for finding in breaks} == {"transformers"}
    assert [(r.compile_id, r.category, r.argument) for r in report.recompiles] == [
        ("15/1", "size", "input")
    ]
    assert {f.kind for f in report.findings} == {"graph-break", "recompile"}
