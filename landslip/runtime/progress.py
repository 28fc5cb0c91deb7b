"""What people watch: pace and time left, as a bar on a terminal and as plain lines elsewhere; numbers in words."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
MEASURED = 3  # rounds of items that a forecast is taken from, after the first round
WORTH_SAYING = 30.0  # seconds left
LINE_EVERY = 20.0  # seconds between plain lines where nobody watches a bar


def say(text: str) -> None:
    """One line for the person at the keyboard, on standard error."""
    console = _console()
    if console is None:
        print(text, file=sys.stderr, flush=True)
    else:
        console.print(text, markup=False, soft_wrap=True)


def track(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    """Yield `items`, showing how many of `total` are done, the pace and the time left. `unit` names one: "window"."""
    console = _console()
    if console is not None and console.is_terminal:
        yield from _bar(items, total, label, unit)
    else:
        yield from _lines(items, total, label, unit)


def forecasting(items: Iterable[T], total: int, label: str, unit: str, at_once: int = 1) -> Iterator[T]:
    """Pass items on; after the first few, say how long the rest will take, where that is worth saying.

    `unit` names one of them; `at_once` are in work at a time. The first round is not measured, since code is compiled
    and files are opened in it.
    """
    began = 0.0
    for done, item in enumerate(items):
        if done == at_once:
            began = time.monotonic()
        if done == at_once * (1 + MEASURED):
            remaining = (time.monotonic() - began) / (at_once * MEASURED) * (total - done)
            if remaining > WORTH_SAYING:
                say(f"{label}: about {duration(remaining)} for {_others(total - done, unit)}")
        yield item


def plural(number: int, noun: str) -> str:
    """A number of things as people say it: 1 window, 2 windows, 3 batches, 12,000 pixels."""
    return f"{number:,} {noun if number == 1 else _several(noun)}"


def pace(done: float, seconds: float, unit: str) -> str:
    """How fast things are done: 12.0 windows/s, or, where that is less than one, 3.5 s per window."""
    rate = done / max(seconds, 1e-9)
    return f"{rate:.1f} {_several(unit)}/s" if rate >= 1 or not done else f"{seconds / done:.1f} s per {unit}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 5 s, 2 h 10 min."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


@cache
def _console() -> Console | None:
    """Where people watch; None on a machine without rich, where lines are printed plainly."""
    try:
        from rich.console import Console  # Imported here, so that a refusal need not wait for it.
    except ImportError:
        return None
    return Console(stderr=True, highlight=False)


def _bar(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    begin = time.monotonic()
    with Progress(*columns, console=_console(), transient=True) as bar:
        task = bar.add_task(label, total=total, rate="")
        for done, item in enumerate(items, start=1):
            yield item
            bar.update(task, completed=done, rate=pace(done, time.monotonic() - begin, unit))


def _lines(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    begin = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= LINE_EVERY:
            shown = now
            rest = (now - begin) / done * max(total - done, 0)
            print(
                f"{label}: {done}/{total} {_several(unit)}, {pace(done, now - begin, unit)}, {duration(rest)} left",
                file=sys.stderr,
                flush=True,
            )


def _others(number: int, unit: str) -> str:
    return f"the other {unit}" if number == 1 else f"the other {plural(number, unit)}"


def _several(noun: str) -> str:
    return f"{noun}es" if noun.endswith(("tch", "sh", "s", "x")) else f"{noun}s"  # batches and boxes, but epochs
