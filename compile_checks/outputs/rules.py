"""Every kind of finding: its cause and its cure. `docs/audit-findings.md` has the same table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from compile_checks._engine.findings import Kind


class Rule(NamedTuple):
    cause: str
    cure: str


RULES: Final[Mapping[Kind, Rule]] = {
    "baseline-expired": Rule(
        "An entry of the baseline has passed its date, so that it accepts its finding no more.",
        "Mend the finding, or accept it anew: `--update-baseline --reason ... --expires ...`.",
    ),
    "baseline-vanished": Rule(
        "The baseline accepts a finding that is no longer there, or at fewer places.",
        "Rejoice, then run again with `--update-baseline`, so that it cannot come back unseen.",
    ),
    "crash": Rule(
        "The process of the case died: a segmentation fault, a killed process, `os._exit`.",
        "Run that one case alone under `python -X faulthandler`.",
    ),
    "cudagraph-skip": Rule(
        "Inductor could not use CUDA graphs: a CPU tensor, a changed input, dynamic shapes.",
        "Do what the reason says, or compile without `mode='reduce-overhead'`.",
    ),
    "disagreement": Rule(
        "PyTorch's own counters saw something that the trace did not, or the other way round.",
        "Read `TORCH_LOGS=graph_breaks,recompiles` for the case, and report it to this project.",
    ),
    "error": Rule(
        "The code raised while it was audited.",
        "Call it without `torch.compile` first: the inputs may not fit. If it then works, the "
        "error is the compiler's, and its text says where.",
    ),
    "export": Rule(
        "`torch.export` needs the whole function as one graph, with shapes that it can name.",
        "Remove the graph breaks first; then mark dynamic dimensions and use `torch._check`.",
    ),
    "fallback": Rule(
        "Dynamo met something in a frame that it can neither compile nor break at, so that all "
        "of the frame runs in eager mode.",
        "Move what the reason names out of the compiled function.",
    ),
    "graph-break": Rule(
        "Dynamo cannot put a line into a graph: it ends one graph there and begins another after.",
        "Follow the hint and PyTorch's page on it; often `torch.where`, `torch.cond` or a constant "
        "in place of `.item()`. Code that only logs can move out of the compiled function.",
    ),
    "graph-budget": Rule(
        "The calls cost more graphs than allowed: something that changes from call to call is "
        "compiled in as a constant.",
        "See which guard failed; pass tensors in place of numbers, or `dynamic=True`, or raise "
        "the budget knowingly.",
    ),
    "graph-snapshot": Rule(
        "The captured graph differs from the one that was accepted.",
        "If the change is meant, accept the new graph; if not, the diff shows what came in.",
    ),
    "host-sync": Rule(
        "The host waits for the GPU within a call, as `.item()` or `.cpu()` make it.",
        "Keep the value on the device, or fetch it after the call.",
    ),
    "mismatch": Rule(
        "Eager and compiled results differ by more than the tolerance.",
        "Without randomness in the code it is an error of the compiler or of a custom op's fake "
        "kernel: bisect with `backend='eager'`, then `'aot_eager'`, then `'inductor'`.",
    ),
    "missing-case": Rule(
        "An op or strategy is registered that no case audits.",
        "Add a case for it.",
    ),
    "no-gradient": Rule(
        "A backward was asked for, and no output requires grad.",
        "Give an input or a parameter `requires_grad=True`, or audit without a backward.",
    ),
    "not-pt2-compliant": Rule(
        "A custom op is not tagged as fit for `torch.compile`.",
        "Check it with `torch.library.opcheck`, then define it with "
        "`tags=torch.Tag.pt2_compliant_tag`.",
    ),
    "nothing-compiled": Rule(
        "Dynamo made no graph: no tensor is computed, the frame was skipped, or compilation is "
        "switched off.",
        "Look for `torch.compiler.disable`, a `force_eager` stance, or a break within a loop, "
        "which makes Dynamo skip the frame.",
    ),
    "opcheck": Rule(
        "A custom op does not keep the contract of `torch.library`: schema, fake kernel, autograd.",
        "The reason names the check that failed: mend the op's registration.",
    ),
    "recompile": Rule(
        "A frame was compiled again because a guard failed: an argument changed that was compiled "
        "in as a constant.",
        "The guard names the argument. Mark a size dynamic (`torch._dynamo.mark_dynamic`), pass a "
        "tensor in place of a number, keep an object's identity; or allow it with a budget.",
    ),
    "recompile-limit": Rule(
        "A frame was recompiled so often that Dynamo gave up and runs it in eager mode.",
        "Remove the cause of the recompiles. To raise `torch._dynamo.config.recompile_limit` only "
        "hides it.",
    ),
    "timeout": Rule(
        "The case hangs, or it takes longer than `--timeout` allows: a lock, a wait for another "
        "process, a slow compilation.",
        "Run that one case alone under `python -X faulthandler` and send it SIGABRT to see where "
        "it stands; or allow more seconds.",
    ),
}
"""By kind, in alphabetical order."""
