"""One thread for files beside the network's: the next block is read while this one is computed.

GDAL keeps stored blocks of a quarter of a megabyte. In the heap of the thread that runs the network they would lie
between its activations and split the room that freed ones leave, so that memory grew with the raster; glibc gives
another thread a heap of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(
    make: Callable[[Item], Made], items: Iterable[Item], files: ThreadPoolExecutor | None = None
) -> Iterator[tuple[Item, Made]]:
    """Each item with what `make` makes of it, in order, the next made meanwhile in `files` or its own thread."""
    with nullcontext(files) if files else ThreadPoolExecutor(1) as thread:
        coming = None
        for item in items:
            following = item, thread.submit(make, item)
            if coming is not None:
                yield coming[0], coming[1].result()
            coming = following
        if coming is not None:
            yield coming[0], coming[1].result()
