"""The stub _native.pyi against the module it describes, and both against asyncio.

stubtest (make lint) compares names and types in depth; here is what it leaves out: that every public name is
documented, in the stub as at run time, and that what overrides asyncio can be called as asyncio's own can.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from asyncio import selector_events, unix_events
from collections.abc import Coroutine
from pathlib import Path
from types import CoroutineType
from typing import Any

import pytest

from data_bridge import pyloop
from data_bridge.pyloop import _native

STUB = ast.parse(Path(pyloop.__file__).with_name("_native.pyi").read_text())

Definition = ast.FunctionDef | ast.ClassDef

NATIVE_TO_ASYNCIO = {
    "LoopCore": asyncio.SelectorEventLoop,
    "Handle": asyncio.Handle,
    "TimerHandle": asyncio.TimerHandle,
    "SocketTransport": selector_events._SelectorSocketTransport,  # type: ignore[attr-defined]
    "DatagramTransport": selector_events._SelectorDatagramTransport,  # type: ignore[attr-defined]
    "ReadPipeTransport": unix_events._UnixReadPipeTransport,  # type: ignore[attr-defined]
    "WritePipeTransport": unix_events._UnixWritePipeTransport,  # type: ignore[attr-defined]
    "SockCall": CoroutineType,
}

#: What asyncio's own have no equal of; a coroutine's methods tell no signature.
OURS_ALONE = {
    ("LoopCore", "call_soon_batch"),
    ("Handle", "get_context"),
    ("SockCall", "send"),
    ("SockCall", "throw"),
    ("SockCall", "close"),
}


def is_public(name: str) -> bool:
    return not name.startswith("_")


def names_in(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What *body* declares, imports and type variables aside."""
    found: dict[str, ast.stmt] = {}
    for statement in body:
        if isinstance(statement, Definition):
            found[statement.name] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement
    return found


MODULE = names_in(STUB.body)
CLASSES = {
    name: names_in(node.body) for name, node in MODULE.items() if isinstance(node, ast.ClassDef)
}
METHODS = [
    (owner, name)
    for owner, members in CLASSES.items()
    for name, node in members.items()
    if isinstance(node, ast.FunctionDef) and is_public(name) and not node.decorator_list
]


#: They give coroutines, but no code of theirs is Python's.
NATIVE_COROUTINES = {name for name in vars(_native.LoopCore) if name.startswith("sock_")}

PUBLIC_METHODS = [
    name
    for name in dir(asyncio.SelectorEventLoop)
    if is_public(name) and callable(getattr(asyncio.SelectorEventLoop, name))
]


def parameters_of(function: ast.FunctionDef) -> list[tuple[str, str, bool]]:
    """(name, kind, has a default) of each parameter, as `signature_of` gives them."""
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    first_default = len(positional) - len(arguments.defaults)
    found = [
        (argument.arg, "positional", index >= first_default)
        for index, argument in enumerate(positional)
    ]
    if arguments.vararg:
        found.append((f"*{arguments.vararg.arg}", "variable", False))
    found += [
        (argument.arg, "keyword", default is not None)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        found.append((f"**{arguments.kwarg.arg}", "variable", False))
    return found


def signature_of(function: Any) -> list[tuple[str, str, bool]]:
    """The same of a function at run time, whatever it is made of."""
    kinds = {
        inspect.Parameter.POSITIONAL_ONLY: ("", "positional"),
        inspect.Parameter.POSITIONAL_OR_KEYWORD: ("", "positional"),
        inspect.Parameter.VAR_POSITIONAL: ("*", "variable"),
        inspect.Parameter.KEYWORD_ONLY: ("", "keyword"),
        inspect.Parameter.VAR_KEYWORD: ("**", "variable"),
    }
    found = []
    for parameter in inspect.signature(function).parameters.values():
        stars, kind = kinds[parameter.kind]
        has_default = parameter.default is not inspect.Parameter.empty
        found.append((stars + parameter.name, kind, has_default))
    return found


# ---- names --------------------------------------------------------------------------------------------


def test_every_public_name_of_the_module_is_in_the_stub() -> None:
    runtime = {name for name in vars(_native) if is_public(name)}
    assert runtime <= set(MODULE)


def test_every_public_name_of_the_stub_is_in_the_module() -> None:
    stub = {name for name in MODULE if is_public(name)}
    assert stub <= set(vars(_native))
    assert _native.__version__ == pyloop.__version__


@pytest.mark.parametrize("owner", sorted(CLASSES))
def test_every_public_member_of_a_class_is_in_the_stub_and_the_other_way_round(owner: str) -> None:
    runtime = vars(getattr(_native, owner))
    inherited = {
        name
        for base in getattr(_native, owner).__mro__[1:-1]
        for name in vars(base)
        if is_public(name)
    }
    declared = {name for name in CLASSES[owner] if is_public(name)}
    assert {name for name in runtime if is_public(name)} <= declared
    assert declared <= set(runtime) | inherited


# ---- documentation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", sorted(CLASSES))
def test_every_class_of_the_stub_is_documented(owner: str) -> None:
    node = MODULE[owner]
    assert isinstance(node, ast.ClassDef)
    assert ast.get_docstring(node)


@pytest.mark.parametrize(("owner", "name"), METHODS)
def test_every_public_method_has_the_same_text_in_the_stub_and_at_run_time(
    owner: str, name: str
) -> None:
    node = CLASSES[owner][name]
    assert isinstance(node, ast.FunctionDef)
    text = ast.get_docstring(node)
    assert text
    assert text == inspect.getdoc(getattr(getattr(_native, owner), name))


@pytest.mark.parametrize("name", PUBLIC_METHODS)
def test_every_method_of_a_pyloop_that_differs_from_asyncio_s_is_documented(name: str) -> None:
    ours = getattr(pyloop.PyLoop, name)
    if ours is not getattr(asyncio.SelectorEventLoop, name):
        assert (ours.__doc__ or "").strip()


# ---- signatures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "name"), METHODS)
def test_a_native_method_has_the_signature_that_the_stub_gives_it(owner: str, name: str) -> None:
    node = CLASSES[owner][name]
    assert isinstance(node, ast.FunctionDef)
    assert signature_of(getattr(getattr(_native, owner), name)) == parameters_of(node)


@pytest.mark.parametrize(("owner", "name"), METHODS)
def test_a_native_method_takes_what_asyncio_s_own_takes(owner: str, name: str) -> None:
    if (owner, name) in OURS_ALONE:
        return
    original = getattr(NATIVE_TO_ASYNCIO[owner], name)
    ours = signature_of(getattr(getattr(_native, owner), name))
    theirs = signature_of(original)
    # 3.11 and 3.12 lack create_task's **kwargs, which hurt nobody there.
    assert [p for p in ours if p not in theirs] in ([], [("**kwargs", "variable", False)])
    assert [p for p in ours if p in theirs] == theirs


@pytest.mark.parametrize("name", PUBLIC_METHODS)
def test_every_method_of_a_pyloop_can_be_called_as_asyncio_s_own(name: str) -> None:
    ours, theirs = getattr(pyloop.PyLoop, name), getattr(asyncio.SelectorEventLoop, name)
    expected = signature_of(theirs)
    assert [parameter for parameter in signature_of(ours) if parameter in expected] == expected
    if name in NATIVE_COROUTINES:
        assert inspect.iscoroutinefunction(theirs) and not inspect.iscoroutinefunction(ours)
        assert issubclass(_native.SockCall, Coroutine)
    else:
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
