"""A step in a process of its own, so that its peak memory is its own and its end is a line in a table."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

from landslip.errors import TrainingError

NO_MEMORY = ("allocate memory", "out of memory")  # words of torch's errors, on a processor and on a GPU
ADVICE = "Use a smaller [training] batch or [blocks] window, and run the same command again."
T = TypeVar("T")


def run_in_process(step: Callable[..., T], *arguments: Any) -> T:
    """Run a step in a process of its own, which ends with this one; an error that it raises is raised here.

    Raises TrainingError where the process is killed or its memory does not do.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, step, arguments))
    process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError as ended:
        raise TrainingError(
            f"the process that did the work was killed, for want of memory most likely. {ADVICE}"
        ) from ended
    except KeyboardInterrupt:
        process.terminate()  # Ctrl-C may have come to this process alone.
        raise
    finally:
        process.join()
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        raise TrainingError(f"not enough memory. {ADVICE}") from error
    if error is not None:
        raise error
    return cast(T, result)


def _run(sender: Connection, step: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the process of a step: send what it returns and None, or None and the error that it raises."""

    def stop(*_: object) -> None:
        # A second signal would end the tidying up of what is half written. SIG_IGN would not do: where the signal has
        # come already, Python prints a traceback.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(KeyboardInterrupt):
        try:
            sender.send((step(*arguments), None))
        except Exception as error:
            sender.send((None, error))


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: the same command given again writes the same files."""
    # A signal that this thread took would not wake the other one, which must hear of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
