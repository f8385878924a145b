"""Keeps standard output for results: what third parties print meanwhile goes to standard error, or nowhere."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Send prints to standard error; some suites put `sys.__stdout__` back by themselves, so that is covered too."""
    with _prints_to(sys.stderr):
        yield


@contextlib.contextmanager
def greetings_dropped() -> Iterator[None]:
    """Drop what suites print when they are imported or made; their errors still arrive as exceptions."""
    with _prints_to(io.StringIO()):
        yield


@contextlib.contextmanager
def _prints_to(target: Any) -> Iterator[None]:
    kept = sys.stdout, sys.__stdout__, sys.stderr
    sys.stdout = sys.__stdout__ = target  # type: ignore
    try:
        yield
    finally:
        sys.stdout, sys.__stdout__, sys.stderr = kept  # type: ignore
