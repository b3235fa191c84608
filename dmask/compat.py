"""The one place that uses private APIs of PyTorch, each with a public or slower fallback.

Everything here is looked up once, at first use and never at import. The state of the process at
that time (inference mode, fake tensors, a profiler) must not affect later calls.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.library import Library

T = TypeVar("T")


def _private(path: str) -> Any:
    """Returns a private object by its full name, or `None` if this release does not have it."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


# ------------------------------------------------------------------ the dispatcher


@lru_cache(maxsize=1)
def plain_check() -> Callable[[Iterable[object]], bool]:
    """Returns a function that is True if the dispatcher would only select a kernel for its tensors.

    The function accepts CPU or CUDA tensors and `None`s. It returns False for anything else: for
    subclasses, fake and meta tensors, and tensors that require grad. It also returns False under
    `vmap`, `grad`, tracing, a profiler or any mode, because they intercept dispatched calls, and in
    releases where it cannot tell.
    """
    try:
        key_set, keys, c = torch._C.DispatchKeySet, torch._C.DispatchKey, torch._C
        tensor_keys, included = c._dispatch_keys, c._dispatch_tls_local_include_set
        profiling, overriding = c._autograd._profiler_enabled, c._len_torch_function_stack
        # In inference mode, tensors and threads have a subset of these keys.
        tensor_names = ("ADInplaceOrView", *_keys_of("CPU"), *_keys_of("CUDA"))
        thread_names = ("BackendSelect", "ADInplaceOrView")
        other_tensor, other_thread = (
            ~_union(key_set(getattr(keys, name)).raw_repr() for name in names)
            for names in (tensor_names, thread_names)
        )
    except Exception:  # a release may raise anything; using the dispatcher is always correct
        return lambda tensors: False

    def check(tensors: Iterable[object]) -> bool:
        try:
            if included().raw_repr() & other_thread or profiling() or overriding():
                return False
            for tensor in tensors:
                if tensor is None:
                    continue
                if type(tensor) is not Tensor or tensor.requires_grad:
                    return False
                if tensor_keys(tensor).raw_repr() & other_tensor:
                    return False
        except Exception:
            return False
        return True

    return check


def _keys_of(device: str) -> tuple[str, ...]:
    """Returns the dispatch keys of a plain tensor on a device."""
    return device, f"Autograd{device}", f"Autocast{device}"


def _union(bits: Iterable[int]) -> int:
    union = 0
    for each in bits:
        union |= each
    return union


def without_gradient(op: Callable[..., Any]) -> Callable[..., Any]:
    """Returns an Autograd kernel that calls an op with several results below autograd."""
    below = _private("torch._C._AutoDispatchBelowAutograd")

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if below is not None:
            with below():
                return op(*args, **kwargs)
        with torch.inference_mode():
            result = op(*args, **kwargs)
        # Autograd rejects tensors that were created in inference mode.
        return tuple(each.clone() for each in result)

    return kernel


# ------------------------------------------------------------------ libraries


def retire(packet: Any) -> None:
    """Makes an op that is about to be destroyed raise an error if it is still called.

    Otherwise a reference to the op would call into freed memory.
    """
    name = str(packet)

    def gone(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"op {name} was unregistered and can no longer be called")

    for held in (*(getattr(packet, overload) for overload in packet.overloads()), packet):
        for attribute in ("_op", "_op_dk"):
            if hasattr(held, attribute):
                setattr(held, attribute, gone)


def destroy(library: Library, packet: Any) -> None:
    """Removes the only op of a library from PyTorch. The caller must drop its reference to it."""
    retire(packet)
    take_down = getattr(library, "_destroy", None)
    if take_down is not None:
        take_down()
    # Without `_destroy`, PyTorch removes the ops when the last reference to the library is gone.
    vars(getattr(torch.ops, library.ns)).pop(str(packet).rpartition(".")[2], None)


# ------------------------------------------------------------------ symbolic sizes


def known(condition: object) -> bool:
    """True if a comparison of sizes certainly holds.

    For unbacked sizes (`mark_unbacked`, `.item()`), an undecidable comparison is False. For backed
    sizes, the hints decide and a guard is added, as everywhere in PyTorch.
    """
    if condition is True or condition is False:
        return condition
    from torch.fx.experimental import (
        symbolic_shapes,
    )  # imports SymPy, as a symbol already has

    return bool(getattr(symbolic_shapes, "guard_or_false", bool)(condition))


def size_hint(size: Any) -> int | None:
    """Returns the likely value of a size without adding a guard, or `None` if it is unknown."""
    if isinstance(size, int):
        return size
    hint = _private("torch.fx.experimental.symbolic_shapes.optimization_hint")
    try:
        return int(size.node.hint if hint is None else hint(size))
    except Exception:  # unbacked, or neither API exists
        return None


# ------------------------------------------------------------------ Inductor


def rewrite_after_grad(op: Any, check: Callable[[Any], bool], rewrite: Callable[..., None]) -> bool:
    """Registers a rewrite of an op in the graphs that Inductor compiles.

    Args:
        op: the overload to look for.
        check: given a match, returns True if it should be rewritten.
        rewrite: given a match and the arguments of its node, rewrites it.

    Returns:
        False if this release does not support it. The op then stays in the graph.
    """
    try:
        from torch._inductor.fx_passes import post_grad
        from torch._inductor.pattern_matcher import CallFunctionVarArgs, register_graph_pattern

        register_graph_pattern(
            CallFunctionVarArgs(op), pass_dict=post_grad.pass_patterns[0], extra_check=check
        )(rewrite)
    except Exception:  # an API is missing or takes other arguments
        return False
    return True


def writes_cpp() -> bool:
    """True if Inductor writes code that runs without Python, as AOTInductor does."""
    virtual = _private("torch._inductor.virtualized.V")
    return bool(getattr(virtual, "aot_compilation", False))


def fake_mode_of(values: Iterable[object]) -> Any:
    """Returns the mode that fake tensors belong to."""
    detect = _private("torch._guards.detect_fake_mode")
    mode = None if detect is None else detect(list(values))
    return nullcontext() if mode is None else mode


# ------------------------------------------------------------------ assertions and pytrees


def assert_later(condition: Tensor, message: str) -> None:
    """Fails with `message` if a bool tensor is False, without synchronizing with its device."""
    check = getattr(torch, "_assert_async", None)
    if check is not None:
        check(condition, message)
    elif not condition:
        raise RuntimeError(message)


def register_pytree(
    cls: type[T],
    flatten: Callable[[T], tuple[list[Any], Any]],
    unflatten: Callable[[Iterable[Any], Any], T],
    name: str,
    from_json: Callable[[Any], Any],
) -> None:
    """Registers a class as a pytree whose context can be stored as JSON, with tuples as lists."""
    register = _private("torch.utils._pytree.register_pytree_node")
    if register is not None:
        register(
            cls,
            flatten,
            unflatten,
            serialized_type_name=name,
            to_dumpable_context=list,
            from_dumpable_context=from_json,
        )
