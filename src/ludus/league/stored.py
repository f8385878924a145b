"""Policies of a role as one stored file: arrays by group, and the architectures that hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ludus.networks.build import build
from ludus.storage.arrays import DamagedFileError, flatten, unflatten

KIND = "policies"


def pack(policies: dict[str, Any], architectures: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of a role's policies, by group."""
    arrays = {f"{group}/{path}": x for group in architectures for path, x in flatten(policies[group]).items()}
    return arrays, {"kind": KIND, "architectures": architectures}


def unpack(arrays: dict[str, np.ndarray], metadata: dict[str, Any], name: str) -> dict[str, Any]:
    """The policies, by group. Raises `DamagedFileError` for a file of another kind or version."""
    if metadata.get("kind") != KIND:
        raise DamagedFileError(f"{name} holds a {metadata.get('kind', 'different thing')}, not policies")
    found = {}
    for group, architecture in metadata["architectures"].items():
        own = {path.removeprefix(f"{group}/"): x for path, x in arrays.items() if path.startswith(f"{group}/")}
        try:
            found[group] = unflatten(build(architecture), own, name)
        except (KeyError, TypeError) as error:
            raise DamagedFileError(f"{name} was written by another version of Ludus: {error}") from error
    return found
