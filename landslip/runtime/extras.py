"""Libraries that only an extra of landslip brings."""

from __future__ import annotations

from importlib import import_module

from landslip.errors import DependencyError


def require_extra(extra: str, user: str, *libraries: str) -> None:
    """Import the libraries of an extra; DependencyError, which names the command that needs them, where one lacks."""
    for library in libraries:
        try:
            import_module(library)
        except ImportError as error:
            raise DependencyError(
                f"{user} needs {library}, which is not installed. Install it with landslip's extra: "
                f"pip install landslip[{extra}]."
            ) from error
