"""One thread for files beside the network's: the next window is read while this one is computed.

GDAL keeps stored tiles of a quarter of a megabyte. In the heap of the thread that runs the network they would lie
between its activations and split the room that freed ones leave, so that memory grew with the raster; glibc gives
another thread a heap of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    make: Callable[[Item], Result], items: Iterable[Item], files: ThreadPoolExecutor | None = None
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `make` makes of it, in order; the next is made meanwhile, in `files` or in a new thread."""
    with nullcontext(files) if files else ThreadPoolExecutor(1) as thread:
        pending = None
        for item in items:
            next_pending = item, thread.submit(make, item)
            if pending is not None:
                yield pending[0], pending[1].result()
            pending = next_pending
        if pending is not None:
            yield pending[0], pending[1].result()
