"""call_soon_batch and coroutine functions: outside debug mode they were queued, and never awaited."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from support.running import run_one_pass

from data_bridge.pyloop import PyLoop


async def _function() -> None:
    raise AssertionError


class _Owner:
    async def method(self) -> None:
        raise AssertionError

    @classmethod
    async def of_the_class(cls) -> None:
        raise AssertionError

    @staticmethod
    async def static() -> None:
        raise AssertionError


_COROUTINE_FUNCTIONS = {
    "function": _function,
    "bound method": _Owner().method,
    "class method": _Owner.of_the_class,
    "static method": _Owner().static,
    "partial": functools.partial(_function),
    "partial of a method": functools.partial(_Owner().method),
}


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("name", list(_COROUTINE_FUNCTIONS))
def test_a_coroutine_function_in_a_batch_is_a_type_error_and_nothing_is_queued(
    pyloop: PyLoop, name: str, position: int, debug: bool
) -> None:
    # Only debug mode looked at functions and methods: the coroutine was made, thrown away, and nobody
    # heard of it but by a RuntimeWarning. The documentation promises a TypeError at the call.
    pyloop.set_debug(debug)
    ran: list[int] = []
    callbacks: list[Any] = [functools.partial(ran.append, number) for number in range(2)]
    callbacks.insert(position, _COROUTINE_FUNCTIONS[name])
    with pytest.raises(TypeError, match="coroutines cannot be used with call_soon_batch"):
        pyloop.call_soon_batch(callbacks)
    assert len(pyloop._ready) == 0
    run_one_pass(pyloop)
    assert ran == []


def test_functions_that_only_look_like_coroutine_functions_are_taken(pyloop: PyLoop) -> None:
    # The other side of the check: generators, lambdas that return a future, methods and classes are
    # callables as any other, and have to be queued.
    ran: list[str] = []

    class Plain:
        def method(self) -> None:
            ran.append("method")

    def generator() -> Any:
        yield

    future = pyloop.create_future()
    pyloop.call_soon_batch([Plain().method, generator, lambda: future, Plain, int, "x".upper])
    assert len(pyloop._ready) == 6
    run_one_pass(pyloop)
    assert ran == ["method"]
