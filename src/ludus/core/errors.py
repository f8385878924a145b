"""Errors written for the person: what was given, what was expected, what to type instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Wrong usage. Its text is one sentence that a command prints before it exits with code 2."""


class NotFiniteError(RuntimeError):
    """A reward or observation was NaN or infinite; the text names the environment, the group and the step."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the option closest to `name`, or the empty string if none is close."""
    options = list(options)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if not close:
        tails = {option.rsplit("/", 1)[-1]: option for option in options}
        close = [tails[t] for t in difflib.get_close_matches(name.rsplit("/", 1)[-1], tails, n=1, cutoff=0.5)]
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown(kind: str, name: str, options: Iterable[str]) -> UsageError:
    """Build the error for a name that is not among `options`: it names the nearest right one, or lists a few."""
    options = sorted(options)
    hint = nearest(name, options)
    if not hint:
        shown = ", ".join(options[:12]) + (", …" if len(options) > 12 else "")
        hint = f"; known: {shown}"
    return UsageError(f"unknown {kind} '{name}'{hint}")
