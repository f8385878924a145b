"""An append-only ledger in SQLite: events in a chain of hashes, each with a key that can be written only once."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ludus.core.errors import UsageError
from ludus.storage.arrays import DamagedFileError

_SCHEMA = """CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL)"""
_NOTHING = "0" * 64


@dataclass(frozen=True)
class Event:
    """One thing that happened. `key` says which: writing it twice is an error, so that nothing counts twice."""

    key: str
    kind: str
    body: dict[str, Any]


class Ledger:
    """One connection that writes (WAL, synchronous FULL), or one that only reads; without a path, in memory."""

    def __init__(self, path: Path | None = None, *, read_only: bool = False):
        self.path = path
        name = ":memory:" if path is None else f"file:{path}?mode=ro" if read_only else str(path)
        try:
            self._database = sqlite3.connect(
                name, uri=read_only, isolation_level=None, check_same_thread=False
            )  # one thread at a time: whoever advances the league
            if not read_only:
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=FULL")
                self._database.execute(_SCHEMA)
            row = self._database.execute("SELECT hash FROM event ORDER BY id DESC LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            raise UsageError(f"cannot use the ledger {path}: {error}") from error
        self.head: str = row[0] if row else _NOTHING

    def commit(self, events: Iterable[Event]) -> str:
        """Write events, all or none; the new head of the chain.

        Raises `UsageError` for a key that is there already, and for a disk that takes no more.
        """
        head, rows = self.head, []
        for event in events:
            body = json.dumps(event.body)  # in its own order: rules go by it
            head = _chain(head, event.key, event.kind, body)
            rows.append((event.key, event.kind, body, head))
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT INTO event (key, kind, body, hash) VALUES (?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise UsageError(f"the ledger {self.path or 'in memory'} takes no more: {error}") from error
        self.head = head
        return head

    def events(self, kind: str | None = None) -> Iterator[Event]:
        """In the order in which they were written, of one kind or all."""
        where, values = ("", ()) if kind is None else (" WHERE kind = ?", (kind,))
        for key, own, body in self._database.execute(f"SELECT key, kind, body FROM event{where} ORDER BY id", values):
            yield Event(key, own, json.loads(body))

    def verify(self) -> None:
        """Raise `DamagedFileError` where the chain of hashes does not hold."""
        head = _NOTHING
        for number, key, kind, body, digest in self._database.execute(
            "SELECT id, key, kind, body, hash FROM event ORDER BY id"
        ):
            head = _chain(head, key, kind, body)
            if digest != head:
                raise DamagedFileError(f"{self.path} is damaged: event {number} ('{key}') does not match its hash")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def _chain(head: str, key: str, kind: str, body: str) -> str:
    return hashlib.sha256("\n".join((head, key, kind, body)).encode()).hexdigest()
