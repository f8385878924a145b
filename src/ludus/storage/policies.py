"""Stored policies: arrays and the architecture that holds them, in one verified file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ludus.core.errors import UsageError
from ludus.storage.arrays import flatten, read_arrays, write_arrays


def save_policy_file(path: Path, policy: Any, architecture: dict[str, Any]) -> None:
    """Write one group's policy; the same policy gives the same bytes."""
    write_arrays(path, flatten(policy), {"kind": "policy", "architecture": architecture})


def load_policy_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A policy file's arrays and architecture. Raises `UsageError` if it is none, `DamagedFileError` if broken."""
    if not path.is_file():
        raise UsageError(f"there is no policy file {path}")
    arrays, metadata = read_arrays(path)
    if metadata.get("kind") != "policy":
        raise UsageError(f"{path} holds a {metadata.get('kind', 'different thing')}, not a policy")
    return arrays, metadata["architecture"]
