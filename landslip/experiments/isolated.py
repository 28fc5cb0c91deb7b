"""A step in a process of its own, so that its memory is its own and its end is a line in a table."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from landslip.errors import TrainingError

NO_MEMORY = ("allocate memory", "out of memory")  # words of torch's errors, on a processor and on a GPU
GRACE = 2.0  # seconds that a step has to end by itself once the comparison has been stopped


class Ended(KeyboardInterrupt):
    """SIGTERM came to the process of a step.

    It may have come to that process alone, or to the comparison too, which then ends by its own signal.
    """


def apart(step: Any, *arguments: Any) -> dict[str, Any]:
    """Run a step in a process of its own, which ends with this one; an error it raises is raised here.

    Raises TrainingError where the process is killed or its memory does not do.
    """
    context = get_context("spawn")
    own_end, other_end = context.Pipe()
    with own_end, other_end, ProcessPoolExecutor(1, context, _end_with, (other_end,)) as pool:
        try:
            result: dict[str, Any] = pool.submit(step, *arguments).result()
        except (BrokenProcessPool, Ended) as error:
            raise TrainingError(
                "the process that did the work was killed, for want of memory most likely. Use a smaller [training] "
                "batch or [blocks] window, and run the same command again."
            ) from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
                raise
            raise TrainingError(
                "not enough memory. Use a smaller [training] batch or [blocks] window, and run the same command again."
            ) from error
        except KeyboardInterrupt:
            # The signal may have come to this process alone, and leaving would wait for the other to finish.
            own_end.close()
            raise
    return result


def _end_with(parent: Connection) -> None:
    """In the process of a step: stop when the other end is closed, which it is too when the other process is killed.

    A step that went on alone would write the same files as the same command given again.
    """

    def watch() -> None:
        with suppress(EOFError, OSError):
            parent.recv_bytes()
        # A signal may have come to both processes, and what is half written is then being removed already.
        time.sleep(GRACE)
        _thread.interrupt_main()
        time.sleep(GRACE)
        os._exit(1)

    def ended(*_: object) -> None:
        raise Ended

    signal.signal(signal.SIGTERM, ended)
    threading.Thread(target=watch, daemon=True).start()
