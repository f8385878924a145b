"""Keyword arguments of other people's games, written as one option: `name=value,name=value`, values in TOML."""

from __future__ import annotations

import tomllib
from typing import Any

from ludus.core.errors import UsageError


def keywords(text: str) -> dict[str, Any]:
    """`map_size=16,mode="fast"` as a dictionary. Raises `UsageError` where it cannot be read."""
    if not text.strip():
        return {}
    try:
        return tomllib.loads(f"found = {{{text}}}")["found"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"arguments are written as name=value,name=value with values as in TOML, not '{text}'"
        ) from error
