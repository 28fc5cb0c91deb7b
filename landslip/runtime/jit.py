"""Loops over pixels compiled to machine code on their first call, by numba."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
_lock = threading.Lock()


def jit(function: F) -> F:
    """`function` as machine code: it takes and returns what numba knows, and runs beside other threads.

    It may call other functions of `jit`, which become a part of it. The code is kept where numba finds a place to
    write (beside the module, or in the user's cache folder), so that a second process need not compile; where there is
    none each process compiles. Division by zero gives infinity or NaN, as in numpy. numba itself is imported on the
    first call, since few commands need it.
    """
    return cast(F, _Compiled(function))


class _Compiled:
    """A function that is compiled when it is first called, from Python or from another one that is compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._code: Any = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._compiled()(*arguments, **options)

    @property
    def _numba_type_(self) -> Any:
        """What numba asks of a name that it meets in a function: here, how the compiled function is called."""
        return self._compiled()._numba_type_

    def _compiled(self) -> Any:
        if self._code is None:
            with _lock:
                if self._code is None:
                    self._code = _compile(self._function)
        return self._code


def _compile(function: Callable[..., Any]) -> Any:
    import numba

    # Forced inline: LLVM by itself leaves helpers that are called for every pixel as calls, which halves the speed.
    compiled = functools.partial(numba.njit, nogil=True, error_model="numpy", forceinline=True)
    try:
        return compiled(cache=True)(function)
    except RuntimeError:  # There is no folder that numba can write its cache into.
        return compiled()(function)
