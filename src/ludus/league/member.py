"""A member of a league: a learner with four rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ludus.league.view import Match, View

MatchRule = Callable[[View, "Member"], "Match | list[Match]"]
FreezeRule = Callable[[View, "Member"], bool]
ResetRule = Callable[[View, "Member"], "str | None"]

EXACT = "exact"  # in the place of an algorithm: exact best responses
FRESH = "fresh"  # a reset rule's answer: begin anew, from nothing
COPY = "="  # before a member's name, in a reset rule's answer


@dataclass(frozen=True)
class Member:
    """Its role says whom it plays; rules are functions of the league's view and the member.

    *train*: `algorithm`, `EXACT` for an exact best response. *match*: whom it meets in this generation; several
    matches train several policies, each from where the member stands. *freeze*: whether its policy joins the
    population now. *reset*: asked after it froze: what it begins from next. None: it goes on; `FRESH`; an entry's
    name; `@member`: what that member knows, with a fresh optimiser; `=member`: all of that member.
    """

    name: str
    role: str
    algorithm: Any
    match: MatchRule
    freeze: FreezeRule
    reset: ResetRule
    kind: str = "main"  # what sort of member it is, to other members' rules
    decay: float = 1.0  # how much an old game counts against a new one in its own record
    span: Literal["league", "generation", "none"] = "league"  # over what its step size falls, where it falls
