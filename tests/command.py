"""The command line run in this process."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from landslip.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def command(*words: object) -> Outcome:
    """Run `landslip WORDS` in this process, as `main` does for the shell; anything but an exit is a traceback."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["landslip", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
    return Outcome(code, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
