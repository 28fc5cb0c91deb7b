"""Loops over pixels compiled to machine code on their first call, by numba."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_lock = threading.Lock()


def jit(function: F) -> F:
    """`function` as machine code: it takes and returns what numba knows, and runs beside other threads.

    The code is kept where numba finds a place to write (beside the module, or in the user's cache folder), so that a
    second process need not compile; where there is none each process compiles. Division by zero gives infinity or NaN,
    as in numpy. numba itself is imported on the first call, since few commands need it.
    """
    made: list[Any] = []

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if not made:
            with _lock:
                if not made:
                    made.append(_compile(function))
        return made[0](*arguments)

    return call  # type: ignore[return-value]


def _compile(function: Callable[..., Any]) -> Any:
    import numba

    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder that can be written
        return numba.njit(nogil=True, error_model="numpy")(function)
