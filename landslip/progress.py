"""What people watch: rate and time left, as a bar on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True, highlight=False)
MEASURED = 3  # items (of each that work at once) that a forecast is taken from, after the first
WORTH_SAYING = 30.0  # seconds left
LINE_EVERY = 20.0  # seconds between plain lines where nobody watches a bar


def say(text: str) -> None:
    """One line for the person at the keyboard, on standard error."""
    console.print(text, markup=False, soft_wrap=True)


def track(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    """Yield `items`, showing how many of `total` are done, the rate in `unit` per second and the time left."""
    if console.is_terminal:
        yield from _bar(items, total, label, unit)
    else:
        yield from _lines(items, total, label, unit)


def forecasting(items: Iterable[T], total: int, label: str, unit: str, at_once: int = 1) -> Iterator[T]:
    """Pass items on; after the first few, say how long the rest will take, where that is worth saying.

    `at_once` are in work at a time. The first round is not measured: it also compiles and opens.
    """
    began = 0.0
    for done, item in enumerate(items):
        if done == at_once:
            began = time.monotonic()
        if done == at_once * (1 + MEASURED):
            rest = (time.monotonic() - began) / (at_once * MEASURED) * (total - done)
            if rest > WORTH_SAYING:
                say(f"{label}: about {duration(rest)} for the other {total - done} {unit}")
        yield item


def _bar(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    begin = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total, rate="")
        for done, item in enumerate(items, start=1):
            yield item
            rate = done / max(time.monotonic() - begin, 1e-9)
            bar.update(task, completed=done, rate=f"{rate:.1f} {unit}/s")


def _lines(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    begin = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= LINE_EVERY:
            shown = now
            rate = done / max(now - begin, 1e-9)
            left = max(total - done, 0) / rate
            print(
                f"{label}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {duration(left)} left",
                file=sys.stderr,
                flush=True,
            )


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
