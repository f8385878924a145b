"""Policies by content: a file's name is the hash of its bytes, checked whenever it is read."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ludus.storage.arrays import DamagedFileError, decode, encode
from ludus.storage.files import write_atomically

Arrays = dict[str, np.ndarray]


class PolicyStore:
    """Immutable files under a directory, the last used of them kept in memory; without a directory, all in memory.

    Equal policies are one file. `build(arrays, metadata, name)` makes of a file's content what `get` returns.
    """

    def __init__(self, directory: Path | None, build: Callable[[Arrays, dict[str, Any], str], Any], keep: int = 256):
        self.directory, self._build = directory, build
        self._keep = keep
        self._held: OrderedDict[str, Any] = OrderedDict()
        self._bytes: dict[str, bytes] = {}

    def path(self, name: str) -> Path:
        """Where a policy of that name stands."""
        assert self.directory is not None
        return self.directory / name[:2] / f"{name}.safetensors"

    def put(self, arrays: Arrays, metadata: dict[str, Any]) -> str:
        """Write a policy; its name."""
        data = encode(arrays, metadata)
        name = hashlib.sha256(data).hexdigest()
        if self.directory is None:
            self._bytes[name] = data
        elif not self.path(name).exists():
            write_atomically(self.path(name), data)
        return name

    def get(self, name: str) -> Any:
        """A policy. Raises `DamagedFileError` naming the file if it is missing or not what was written."""
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        found = self._build(*self.content(name), name)
        self._held[name] = found
        while len(self._held) > self._keep:
            self._held.popitem(last=False)
        return found

    def content(self, name: str) -> tuple[Arrays, dict[str, Any]]:
        """A file's arrays and metadata, verified."""
        return decode(self._read(name), name)

    def names(self) -> list[str]:
        """Of all files."""
        if self.directory is None:
            return list(self._bytes)
        return [path.stem for path in self.directory.glob("[0-9a-f][0-9a-f]/*.safetensors")]

    def remove(self, name: str) -> None:
        """Forget a file that nothing refers to any more."""
        self._held.pop(name, None)
        if self.directory is None:
            self._bytes.pop(name, None)
        else:
            self.path(name).unlink(missing_ok=True)

    def _read(self, name: str) -> bytes:
        if self.directory is None:
            return self._bytes[name]
        path = self.path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DamagedFileError(f"the policy file {path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != name:
            raise DamagedFileError(f"the policy file {path} is damaged: its content is not what its name says")
        return data
