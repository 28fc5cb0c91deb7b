"""The program `landslip`: its commands in the order of the pipeline, its exit codes, and how it is stopped."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from landslip import __version__
from landslip.cli import mapping, model, outputs, prepare, studies
from landslip.cli.outputs import EndedByCtrlC
from landslip.errors import LandslipError

# The commands in the order of the pipeline, under the groups that `landslip --help` lists them in.
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Site": {"check": prepare.check_command, "prepare": prepare.prepare_command, "import": prepare.import_command},
    "Train": {
        "train": model.train_command,
        "ensemble": model.ensemble_command,
        "calibrate": model.calibrate_command,
        "quantize": model.quantize_command,
    },
    "Map": {"map": mapping.map_command, "inventory": mapping.inventory_command},
    "Judge": {
        "evaluate": mapping.evaluate_command,
        "intervals": studies.intervals_command,
        "importance": studies.importance_command,
        "compare": studies.compare_command,
        "ladder": studies.ladder_command,
        "transfer": model.transfer_command,
    },
    "Hand over": {
        "report": outputs.report_command,
        "serve": outputs.serve_command,
        "correct": prepare.correct_command,
        "qgis": outputs.qgis_command,
        "export": outputs.export_command,
        "stac": outputs.stac_command,
    },
    "Try and look": {"demo": outputs.demo_command, "info": outputs.info_command},
}
LONGEST = 200  # characters of a command's summary there, which none reaches, so that none is cut


class Pipeline(TyperGroup):
    """The commands as `landslip --help` lists them: in plain text, under the groups that typer keeps for rich."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a list of each group's commands, in the order of the pipeline."""
        groups: dict[str, list[Any]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            groups.setdefault(command.rich_help_panel, []).append(command)
        widest = max(len(name) for name in self.commands)
        for group, commands in groups.items():
            with formatter.section(group):  # One column for all groups; a narrow terminal wraps the summaries.
                formatter.write_dl([(one.name.ljust(widest), one.get_short_help_str(LONGEST)) for one in commands])


app = typer.Typer(cls=Pipeline, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for _group, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_group)(_command)


def main() -> None:
    """Run the command that the words of the command line name, and end the process with its exit code.

    0: done. 1: check found faults, or a run of compare or ladder failed. 2: refused. 130: stopped by Ctrl-C. 143:
    stopped by SIGTERM, as a queue or a container ends a process.
    """
    stop_code = 130

    def terminated(number: int, _: object) -> None:
        nonlocal stop_code
        signal.signal(number, signal.SIG_IGN)  # A second SIGTERM would end the tidying up.
        stop_code = 128 + number
        raise KeyboardInterrupt

    # Python sets signal handlers in the main thread only. A caller that ignores or handles SIGTERM keeps its own way.
    in_main = threading.current_thread() is threading.main_thread()
    handles_sigterm = in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    # Threads that wait without spinning leave the processor to others; it must be said before torch starts its own.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if handles_sigterm:
            signal.signal(signal.SIGTERM, terminated)
        app()
    except (LandslipError, MemoryError, RuntimeError, OSError) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        _say(refusal)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        ended = isinstance(stop, EndedByCtrlC)
        # Typer turns Ctrl-C into an exit of its own, with code 130.
        if isinstance(stop, SystemExit) and not ended and stop.code != 130:
            raise
        _say(str(stop) if ended else "stopped. What was half written is removed; the same command goes on.")
        sys.exit(stop_code)
    finally:
        if handles_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"landslip {__version__}")
        raise typer.Exit


@app.callback()
def _landslip(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Recognise landslides in satellite images and map them."""


def _refusal(error: LandslipError | MemoryError | RuntimeError | OSError) -> str | None:
    """What to say of an error that the user can do something about; None where it is a bug and needs its traceback."""
    if isinstance(error, LandslipError):
        return f"{error}"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}). Use a smaller outline or a coarser grid."
    if isinstance(error, RuntimeError):
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            return None
        remedy = "Use a smaller [training] batch or [blocks] window, or a machine with more memory."
        return f"not enough memory for the network. {remedy}"
    if error.errno == errno.ENAMETOOLONG:
        return f"{str(error.filename)[:300]}: the disk takes no name so long. Give a shorter one."
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):
        return f"what it says cannot be written ({error.strerror}). Free some space."
    return None


def _say(text: str) -> None:
    """Print a line on standard error; where that is a file on a full disk, the exit code alone still counts."""
    with suppress(OSError):
        print(f"landslip: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
