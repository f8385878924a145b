"""Keeps standard output for results: what third parties print meanwhile goes to standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Send prints to standard error; some suites put `sys.__stdout__` back by themselves, so that is covered too."""
    kept = sys.stdout, sys.__stdout__, sys.stderr
    sys.stdout = sys.__stdout__ = sys.stderr  # type: ignore
    try:
        yield
    finally:
        sys.stdout, sys.__stdout__, sys.stderr = kept  # type: ignore
