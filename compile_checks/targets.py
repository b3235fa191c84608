"""Loads what a command line names, `path/to/file.py::name` or `package.module:name`, to audit it.

A name stands for a function, a `torch.nn.Module` (a class that needs no arguments, or an instance)
or a factory: a function without parameters that returns `(callable, inputs)` or a list of cases.
What is no factory takes its inputs from `example_inputs`, see `_example_inputs`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch

from compile_checks.case import Case
from compile_checks.scenarios import Call, Calls, Step, steps_of

_T = TypeVar("_T")

_HERE = str(Path(__file__).parent)
_FORMS = "path/to/file.py::name or package.module:name"


class TargetError(Exception):
    """The user's error. Its text is all there is to say."""


def load(target: str) -> list[Case]:
    """The cases that a target stands for: one, or those of its list.

    Raises:
        TargetError: where there is no such file, module or name, where importing or calling it
            fails, where it is nothing to audit, or where its inputs are not known.
    """
    where, name = _split(target)
    module = _imported(where)
    if not name:
        raise TargetError(f"{target}: expected {_FORMS}; {_offers(module)}")
    if not hasattr(module, name):
        raise TargetError(f"{target}: there is no {name!r}{_similar(name, module)}")
    return _resolved(target, getattr(module, name), module)


def _split(target: str) -> tuple[str, str]:
    """Where to look, a path that ends in `.py` or a module, and the name, which may be missing."""
    where, separator, name = target.partition("::")
    if not separator and not target.endswith(".py"):
        where, separator, name = target.partition(":")
    if not where or (name and not name.isidentifier()):
        raise TargetError(f"{target}: expected {_FORMS}")
    return where, name


# ------------------------------------------------------------------ import


def _imported(where: str) -> ModuleType:
    if where.endswith(".py"):
        path = Path(where).resolve()
        if not path.is_file():
            raise TargetError(f"{where}: there is no such file")
        return _guarded(f"cannot import {where}", _import_file, path)
    if not all(part.isidentifier() for part in where.split(".")):
        raise TargetError(f"{where}: expected {_FORMS}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return _guarded(f"cannot import {where}", importlib.import_module, where)


def _import_file(path: Path) -> ModuleType:
    """A file of a package is imported as a part of it, so that its relative imports work."""
    root, name = path.parent, path.stem
    while (root / "__init__.py").is_file():
        root, name = root.parent, f"{root.name}.{name}"
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # as when Python runs the file
    if "." in name:
        return importlib.import_module(name)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None:
        name = f"audited_{name}"  # such as a `json.py`
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"nothing here loads {path.suffix} files")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _guarded(doing: str, function: Callable[..., _T], *args: Any) -> _T:
    """Calls into the user's code. Its error is told with its own frames, not with the tool's."""
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        stack = traceback.extract_tb(error.__traceback__)
        own = [f for f in stack if not f.filename.startswith((_HERE, "<frozen", "<string>"))]
        while own and own[0].filename == importlib.__file__:
            del own[0]
        lines = traceback.format_list(own) + traceback.format_exception_only(error)
        raise TargetError(f"{doing}:\n{''.join(lines).rstrip()}") from None


# ------------------------------------------------------------------ what a name stands for


def _resolved(target: str, found: Any, module: ModuleType) -> list[Case]:
    if inspect.isclass(found):
        found = _instance(target, found)
    if inspect.isfunction(found) and not _required(found):
        made = _guarded(f"{target}() raised", found)
        if _is_factory_result(made):
            found = made
        else:
            return [Case(target, found, [((), {})])]
    if isinstance(found, list):
        return _listed(target, found)
    if _is_factory_result(found):
        fn, inputs = found
        return [Case(target, fn, _calls(target, inputs))]
    if not callable(found):
        raise TargetError(
            f"{target}: expected a function, a torch.nn.Module or a factory, "
            f"got {type(found).__name__}"
        )
    calls = _example_inputs(target, found, module)
    _check_fit(target, found, calls)
    return [Case(target, found, calls)]


def _instance(target: str, found: type) -> Any:
    if not issubclass(found, torch.nn.Module):
        raise TargetError(f"{target}: expected a torch.nn.Module, got class {found.__name__}")
    if required := _required(found):
        raise TargetError(
            f"{target}: {found.__name__}({', '.join(required)}) cannot be made without arguments. "
            f"Write a factory and name that:\n"
            f"    def audited():\n        return {found.__name__}(...), (x,)  # model, inputs"
        )
    return _guarded(f"{target}() raised", found)


def _is_factory_result(value: Any) -> bool:
    """`(callable, inputs)`, or a list of cases or of such pairs."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, Case) or _is_factory_result(v) for v in value)
    return isinstance(value, tuple) and len(value) == 2 and callable(value[0])


def _listed(target: str, items: list[Any]) -> list[Case]:
    cases: list[Case] = []
    for number, item in enumerate(items):
        if isinstance(item, Case):
            cases.append(item)
        elif _is_factory_result(item) and isinstance(item, tuple):
            cases.append(Case(f"{target}[{number}]", item[0], _calls(target, item[1])))
        else:
            raise TargetError(
                f"{target}[{number}]: expected a Case or (callable, inputs), "
                f"got {type(item).__name__}"
            )
    if not cases:
        raise TargetError(f"{target}: an empty list holds nothing to audit")
    return cases


# ------------------------------------------------------------------ inputs


def _calls(target: str, inputs: Any) -> Calls:
    """Inputs as calls. A function makes them anew for each mode, and each time they are called."""
    if not inspect.isroutine(inputs):
        return _listed_calls(inputs)
    _guarded(f"{target}: {inputs.__name__}() raised", inputs)
    return lambda: _listed_calls(inputs())


def _listed_calls(inputs: Any) -> list[Step | Call]:
    """A tuple is positional arguments, a dict keyword arguments, a list several calls in turn."""
    if isinstance(inputs, list):
        return [call for item in inputs for call in _listed_calls(item)]
    if isinstance(inputs, Step):
        return [inputs]
    if isinstance(inputs, Mapping):
        return [((), dict(inputs))]
    return [(inputs if isinstance(inputs, tuple) else (inputs,), {})]


def _example_inputs(target: str, found: Any, module: ModuleType) -> Calls:
    """`example_inputs` of the function or module, or else of the file: inputs, or a function
    without parameters that makes them.
    """
    inputs = getattr(found, "example_inputs", None)
    if inputs is None:
        inputs = getattr(module, "example_inputs", None)
    if inputs is None:
        raise TargetError(_needs_inputs(target, found, module))
    return _calls(target, inputs)


def _check_fit(target: str, found: Any, calls: Calls) -> None:
    """One `example_inputs` of a file may serve several functions, but not all of them."""
    function = found.forward if isinstance(found, torch.nn.Module) else found
    for step in steps_of(calls):
        try:
            inspect.signature(function).bind(*step.args, **step.kwargs)
        except TypeError as error:
            raise TargetError(f"{target}: example_inputs does not fit: {error}") from None
        except ValueError:  # some builtins tell no signature
            return


def _needs_inputs(target: str, found: Any, module: ModuleType) -> str:
    called = found.forward if isinstance(found, torch.nn.Module) else found
    names = _parameters(called)
    name = target.rpartition(":")[2]
    made = f"{name}()" if isinstance(getattr(module, name, None), type) else name
    given = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
    return (
        f"{target} needs inputs: {given}. Add to {Path(module.__file__ or name).name} either\n"
        f"    def example_inputs():\n"
        f"        return {given}\n"
        f"or a factory, and name that instead of {name}:\n"
        f"    def audited():\n"
        f"        return {made}, {given}"
    )


def _parameters(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that must be given, or all where none must."""
    try:
        return _required(function) or [*inspect.signature(function).parameters]
    except (TypeError, ValueError):  # some builtins tell no signature
        return ["..."]


def _required(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]


# ------------------------------------------------------------------ what a file offers


def _similar(name: str, module: ModuleType) -> str:
    close = difflib.get_close_matches(name, _offered(module), n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f" in {module.__name__}{guess}; {_offers(module)}"


def _offers(module: ModuleType) -> str:
    names = _offered(module)
    return f"it offers: {', '.join(names)}" if names else "it offers nothing to audit"


def _offered(module: ModuleType) -> list[str]:
    """The public names that were made in this module and can be audited."""
    return [name for name, value in vars(module).items() if _is_offer(name, value, module)]


def _is_offer(name: str, value: Any, module: ModuleType) -> bool:
    if name.startswith("_") or name == "example_inputs":
        return False
    if isinstance(value, torch.nn.Module):
        return True
    own = getattr(value, "__module__", None) == module.__name__
    if inspect.isclass(value):
        return own and issubclass(value, torch.nn.Module)
    return (own and callable(value)) or _is_factory_result(value)


def definition(fn: Callable[..., Any]) -> tuple[str, int]:
    """File and line at which an audited callable is defined; `("", 0)` where it has none."""
    source = type(fn) if isinstance(fn, torch.nn.Module) else inspect.unwrap(fn)
    try:
        return inspect.getsourcefile(source) or "", inspect.getsourcelines(source)[1]
    except (OSError, TypeError):
        return "", 0
