"""Parses a failed guard into what changed and which argument it concerns.

Dynamo's trace has a failed guard only as a line of text. The line is a sentence about a tensor
(`tensor 'x' size mismatch at index 0. expected 3, actual 4`), a sentence about the global state, or
Python code over the guarded values (`2 <= x.size()[0]`, `n == 2`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from compile_checks._engine.findings import Category


@dataclass(frozen=True)
class FailedGuard:
    """A guard that failed."""

    guard: str
    argument: str
    category: Category
    hint: str = ""
    """PyTorch's own advice."""
    places: tuple[tuple[str, int], ...] = ()
    """The lines that read the guarded value, innermost first. The last file may be shortened."""


_ID = re.compile(r"^\s*(\d+/\d+(?:_\d+)?): ")
_SCOPE = re.compile(r"\b[LG]\[\s*['\"](\w+)['\"]\s*\]")
_COMMENT = re.compile(r"\s+# ")
_HINT = re.compile(r"\(HINT: (.*)\)\s*\Z")
_COMMENTED_PLACE = re.compile(r"# (\S+):(\d+) in \S+")
_STACK = re.compile(r'^\s*File "(.+)", line (\d+)', re.MULTILINE)
_TENSOR = re.compile(r"tensor '(?P<argument>.*)' (?P<what>[\w ]+?) mismatch")
_TYPE = re.compile(r"expected type of '(?P<argument>.*)' to be")
_DUPLICATES = re.compile(r"Duplicate tensors? found:? *\[?(?P<argument>[^\]]*)")
_MISSING = re.compile(r"(?:Key|Index)Error on (?P<argument>.+)")
_ARRAY = re.compile(r"___from_numpy\((.+)\)")
_MODULE = re.compile(r"\._(?:modules|parameters|buffers)\[['\"](\w+)['\"]\]")

_POSITION = re.compile(r"^args\[(\d+)\]")
_KEYWORD = re.compile(r"^kwargs\[['\"](\w+)['\"]\]")

_TENSOR_CATEGORIES: dict[str, Category] = {
    "size": "size",
    "rank": "size",
    "stride": "stride",
    "dtype": "dtype",
    "requires_grad": "requires_grad",
}
_GLOBAL = (
    "GLOBAL_STATE",
    "___check_global_state",
    "___check_torch_function",
    "___is_grad_enabled",
    "___are_deterministic_algorithms",
    "utils_device.CURRENT_DEVICE",
    "torch.utils._device.CURRENT_DEVICE",
    "torch._functorch",
)


def cause(reasons: Iterable[str], changed: Collection[str] = ()) -> str:
    """Returns the reason for a recompile that says most about it.

    The reason for the newest compilation says what changed most recently. But if that has changed
    before and only changes back, an older compilation says what is new.

    Args:
        changed: the arguments that earlier recompiles of the frame are about.

    >>> cause(["0/0: tensor 'x' size mismatch", "0/1: 2 <= x.size()[0]"])
    '0/1: 2 <= x.size()[0]'
    >>> cause(["0/0: b == True", "0/1: a == False"], changed=["a"])
    '0/0: b == True'
    """
    newest = sorted(reasons, key=_age, reverse=True)
    return next((r for r in newest if read_guard(r).argument not in changed), "".join(newest[:1]))


def _age(reason: str) -> int:
    named = _ID.match(reason)
    return int(named[1].partition("/")[2].partition("_")[0]) if named else -1


def read_guard(reason: str) -> FailedGuard:
    """Parses the guard in the reason for a recompile.

    >>> read_guard("0/0: tensor 'x' size mismatch at index 0. expected 3, actual 4").category
    'size'
    >>> found = read_guard("0/1: 2 <= L['x'].size()[0] <= 5  # if n > 5:  # model.py:7 in f")
    >>> found.guard, found.argument, found.places
    ('2 <= x.size()[0] <= 5', 'x', (('model.py', 7),))
    >>> read_guard("0/0: GLOBAL_STATE changed: grad_mode").category
    'global state'
    """
    first, _, rest = _ID.sub("", reason.strip()).partition("\n")
    hint = _HINT.search(first)
    stack = [(file, int(line)) for file, line in _STACK.findall(rest)]
    commented = [(file, int(line)) for file, line in _COMMENTED_PLACE.findall(first)[-1:]]
    return replace(
        _read_line(_SCOPE.sub(r"\1", first)),
        hint=hint[1] if hint else "",
        places=(*reversed(stack), *commented),
    )


def _read_line(line: str) -> FailedGuard:
    sentence = _COMMENT.split(line, maxsplit=1)[0].strip()
    if found := _TENSOR.search(sentence):
        category = _TENSOR_CATEGORIES.get(found["what"], "other")
        return FailedGuard(sentence, _pretty(found["argument"]), category)
    if found := _TYPE.search(sentence) or _DUPLICATES.search(sentence):
        return FailedGuard(sentence, _pretty(found["argument"]), "object identity")
    if found := _MISSING.fullmatch(sentence):
        return FailedGuard(sentence, _pretty(found["argument"]), "other")
    if sentence.startswith(_GLOBAL):
        return FailedGuard(sentence, "", "global state")
    return _read_code(line, sentence)


def _read_code(line: str, sentence: str) -> FailedGuard:
    try:
        tree = ast.parse(line.partition(", type=")[0], mode="eval").body
    except SyntaxError:
        return FailedGuard(sentence, "", "other")
    guard = ast.get_source_segment(line, tree) or sentence  # without the comment
    sources = dict.fromkeys(_pretty(source) for source in _sources(tree))
    return FailedGuard(guard, ", ".join(sources), _code_category(guard, tree))


def _code_category(guard: str, tree: ast.expr) -> Category:
    if ".stride()" in guard or ".storage_offset()" in guard:
        return "stride"
    if ".size()" in guard or "len(" in guard or _is_empty(tree):
        return "size"
    if "___check_obj_id" in guard or "___check_type_id" in guard:
        return "object identity"
    operators = {
        type(op) for node in ast.walk(tree) if isinstance(node, ast.Compare) for op in node.ops
    }
    if operators & {ast.Is, ast.IsNot}:
        return "object identity"
    types = {type(constant) for constant in _compared(tree)}
    if float in types:
        return "float"
    return "int" if int in types else "other"


def _is_empty(tree: ast.expr) -> bool:
    """True for the guard on the length of an empty list: `not x.parts`."""
    match tree:
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name() | ast.Attribute() | ast.Subscript()):
            return True
    return False


def _compared(tree: ast.expr) -> Iterator[object]:
    """Yields the constants that a guard compares against, except those in subscripts."""
    match tree:
        case ast.Compare(left=left, comparators=others):
            for operand in (left, *others):
                yield from _compared(operand)
        case ast.UnaryOp(operand=operand):
            yield from _compared(operand)
        case ast.BoolOp(values=operands):
            for operand in operands:
                yield from _compared(operand)
        case ast.BinOp(left=left, right=right):
            yield from _compared(left)
            yield from _compared(right)
        case ast.Constant(value=value):
            yield value
        case ast.Call(args=args):
            for arg in args:
                yield from _compared(arg)


def _sources(tree: ast.expr) -> Iterator[str]:
    """Yields the guarded values in an expression: the longest chains of names and subscripts."""
    match tree:
        case ast.Call(func=ast.Attribute(value=value, attr="size" | "stride" | "storage_offset")):
            yield from _sources(value)
        case ast.Call(func=ast.Name() | ast.Attribute(ast.Name("dict" | "set")), args=args):
            for arg in args:
                yield from _sources(arg)
        case ast.Subscript(value=ast.Call() as value):
            yield from _sources(value)
        case ast.Name() | ast.Attribute() | ast.Subscript():
            yield ast.unparse(tree)
        case _:
            for child in ast.iter_child_nodes(tree):
                if isinstance(child, ast.expr):
                    yield from _sources(child)


def as_called(argument: str, parameters: Sequence[str]) -> str:
    """Returns the name of a parameter if Dynamo only saw forwarded `*args` and `**kwargs`.

    >>> as_called("args[1].shape", ["x", "y"]), as_called("kwargs['y']", ["x", "y"])
    ('y.shape', 'y')
    """
    if "args" in parameters:
        return argument
    argument = _KEYWORD.sub(r"\1", argument)
    found = _POSITION.match(argument)
    if found is None or int(found[1]) >= len(parameters):
        return argument
    return parameters[int(found[1])] + argument[found.end() :]


def _pretty(source: str) -> str:
    """Returns the source of a guarded value in readable form; for an array, that of the array.

    >>> _pretty("L['self']._modules['linear']._parameters['weight']")
    'self.linear.weight'
    """
    source = _ARRAY.sub(r"\1", _SCOPE.sub(r"\1", source))
    return _MODULE.sub(r".\1", source).replace('"', "")
