"""Frozen policies: who they are and where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Entry:
    """A frozen policy of one role."""

    name: str  # "main:3": the third that member `main` froze
    role: str
    member: str
    parent: str | None  # the entry that its training began from; None: from nothing
    generation: int
    steps: int  # environment steps that its member had trained in all
    file: str  # its name in the policy store
    count: int = 1  # how often the same policy was frozen
    damaged: bool = False  # its file is not what was written: it plays no more


@dataclass
class Population:
    """All entries, in the order in which they were last frozen; each role has its own."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, entry: Entry) -> Entry:
        """Freeze one; a policy that its role has already is counted there instead, and is the newest again."""
        for other in self.entries.values():
            if other.role == entry.role and other.file == entry.file:
                del self.entries[other.name]
                self.entries[other.name] = replace(other, count=other.count + 1)
                return self.entries[other.name]
        self.entries[entry.name] = entry
        return entry

    def mark_damaged(self, name: str) -> None:
        """Leave it out from now on."""
        self.entries[name] = replace(self.entries[name], damaged=True)

    def of(self, role: str, member: str | None = None) -> list[Entry]:
        """Those of a role (frozen by a member) that can play, oldest first."""
        return [
            e
            for e in self.entries.values()
            if e.role == role and not e.damaged and (member is None or e.member == member)
        ]

    def frozen_by(self, member: str) -> int:
        """How many a member froze, equal ones counted once."""
        return sum(e.member == member for e in self.entries.values())

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)
