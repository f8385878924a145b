"""Array files: safetensors that carry a hash of themselves, and trees of arrays laid out in them.

The header's metadata holds the SHA-256 of the whole file with the hash's own digits zeroed, so one flipped bit
anywhere, header included, is found on load.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from ludus.storage.files import write_atomically

Tree = TypeVar("Tree")
_ZEROS = "0" * 64


class DamagedFileError(RuntimeError):
    """An array file that is not what was written."""


def encode(arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> bytes:
    """The bytes of an array file; the same arrays and metadata give the same bytes."""
    header = {"ludus": json.dumps([_ZEROS, metadata], sort_keys=True)}  # one entry: safetensors shuffles several
    data = safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in sorted(arrays.items())}, header)
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(_ZEROS.encode(), digest.encode(), 1)


def decode(data: bytes, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of an array file's bytes, verified. Raises `DamagedFileError` naming the file."""
    try:
        size = int.from_bytes(data[:8], "little")
        digest, metadata = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["ludus"])
        if len(digest) != 64:
            raise ValueError
        zeroed = data.replace(digest.encode(), _ZEROS.encode(), 1)
        if hashlib.sha256(zeroed).hexdigest() != digest:
            raise ValueError
        return safetensors.numpy.load(data), metadata
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise DamagedFileError(f"{name} is damaged: its content does not match its hash") from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write an array file, atomically."""
    write_atomically(path, encode(arrays, metadata))


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read and verify an array file."""
    return decode(path.read_bytes(), str(path))


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """A tree of arrays by path; random keys as their numbers."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(_plain(leaf)) for path, leaf in leaves}


def unflatten(like: Tree, arrays: dict[str, np.ndarray], name: str) -> Tree:
    """The tree `like`, with these arrays. Raises `DamagedFileError` where shapes or paths differ."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    restored = []
    for path, leaf in leaves:
        key = jax.tree_util.keystr(path)
        found, plain = arrays.get(key), jax.eval_shape(_plain, leaf)
        if found is None or found.shape != plain.shape or found.dtype != plain.dtype:
            held = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise DamagedFileError(f"{name} holds {held} at {key} where {plain.dtype}{list(plain.shape)} belongs")
        restored.append(_like(leaf, found))
    return jax.tree_util.tree_unflatten(structure, restored)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _like(leaf: Any, array: np.ndarray) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array))
    return jnp.asarray(array)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
