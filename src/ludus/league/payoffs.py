"""The payoff table: what every joint choice of policies earned, over how many games."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

Profile = tuple[str, ...]  # who plays each team, in the order of the game's teams


@dataclass
class Cell:
    """Sums over games; `games` is infinite where the payoff is exact, and the sums are then means."""

    games: float
    returns: Float[np.ndarray, " team"]
    squares: Float[np.ndarray, " team"]
    scores: Float[np.ndarray, " team"]  # 1 for a win, 1/2 for a draw

    @property
    def mean(self) -> Float[np.ndarray, " team"]:
        """Each team's mean return."""
        return self.returns if np.isinf(self.games) else self.returns / max(self.games, 1e-12)

    @property
    def score(self) -> Float[np.ndarray, " team"]:
        """Each team's rate of wins, draws counted half."""
        return self.scores if np.isinf(self.games) else self.scores / max(self.games, 1e-12)

    @property
    def error(self) -> Float[np.ndarray, " team"]:
        """The standard error of the mean returns; infinite below two games."""
        if np.isinf(self.games):
            return np.zeros_like(self.returns)
        if self.games < 2:
            return np.full_like(self.returns, np.inf)
        variance = np.maximum(self.squares / self.games - self.mean**2, 0.0)
        return np.sqrt(variance / self.games)


@dataclass
class PayoffTable:
    """Cells by profile. Unplayed ones do not exist; `decay` forgets old games as new ones come."""

    teams: int
    by_return: bool = False  # nobody wins: shares won are returns instead, from the least to the most ever seen
    cells: dict[Profile, Cell] = field(default_factory=dict)
    low: Float[np.ndarray, " team"] = field(init=False)
    high: Float[np.ndarray, " team"] = field(init=False)

    def __post_init__(self) -> None:
        self.low, self.high = np.full(self.teams, np.inf), np.full(self.teams, -np.inf)

    def add(
        self,
        profile: Profile,
        games: float,
        returns: Float[np.ndarray, " team"],
        squares: Float[np.ndarray, " team"],
        scores: Float[np.ndarray, " team"],
        *,
        decay: float = 1.0,
    ) -> None:
        """Count games; with `decay` d every new game weighs all before it down by d, also those of one call.

        Their order is not known, so that each weighs as they do on average: n games as (1 − dⁿ) / (1 − d).
        """
        old = self.cells.get(profile)
        kept = decay**games if np.isfinite(games) else 0.0
        if decay < 1 and np.isfinite(games) and games > 0:
            weight = (1 - kept) / ((1 - decay) * games)
            games, returns, squares, scores = games * weight, returns * weight, squares * weight, scores * weight
        if old is None or np.isinf(games) or np.isinf(old.games):
            self.cells[profile] = Cell(games, returns, squares, scores)
        else:
            parts = zip((old.returns, old.squares, old.scores), (returns, squares, scores), strict=True)
            self.cells[profile] = Cell(old.games * kept + games, *(a * kept + b for a, b in parts))
        mean = self.cells[profile].mean
        self.low, self.high = np.minimum(self.low, mean), np.maximum(self.high, mean)

    def _score(self, cell: Cell, seat: int, by_return: bool) -> float:
        """The share that a team won, or where its return stands."""
        if not by_return:
            return float(cell.score[seat])
        span = self.high[seat] - self.low[seat]
        return float((cell.mean[seat] - self.low[seat]) / span) if span > 0 else 0.5

    def between(self, own: str, other: str, *, by_return: bool = False) -> tuple[float, float]:
        """Games between two, over all seatings, and the share that `own` won, draws counted half; 1/2 if unknown.

        Of games with more teams those count in which `own` and `other` both play. With `by_return` where its return
        stands between the least and the most that was ever seen, instead of a share.
        """
        games, score, by_return = 0.0, 0.0, by_return or self.by_return
        if self.teams > 2:
            for profile, known in self.cells.items():
                if own in profile and other in profile and (own != other or profile.count(own) > 1):
                    weight = min(known.games, 1e9)
                    games, score = games + weight, score + weight * self._score(known, profile.index(own), by_return)
            return games, score / games if games > 0 else 0.5
        for seat in range(self.teams):
            profile = tuple(own if team == seat else other for team in range(self.teams))
            cell = self.cells.get(profile)
            if cell is None or (own == other and seat > 0):
                continue
            weight = min(cell.games, 1e9)
            games, score = games + weight, score + weight * self._score(cell, seat, by_return)
        return games, float(score / games) if games > 0 else 0.5

    def rates(self, own: str, others: list[str], *, by_return: bool = False) -> Float[np.ndarray, " other"]:
        """The share won against each; with `by_return` where its return stands."""
        return np.array([self.between(own, other, by_return=by_return)[1] for other in others])

    def games(self, own: str, others: list[str]) -> Float[np.ndarray, " other"]:
        """How many games against each."""
        return np.array([self.between(own, other)[0] for other in others])

    def tensor(self, names: list[list[str]]) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """Mean returns `[policy of team 0, …, team]` and games; unplayed cells are 0 with 0 games."""
        shape = tuple(len(x) for x in names)
        payoffs, counts = np.zeros((*shape, self.teams)), np.zeros(shape)
        for index in np.ndindex(*shape):
            cell = self.cells.get(tuple(names[team][k] for team, k in enumerate(index)))
            if cell is not None:
                payoffs[index], counts[index] = cell.mean, cell.games
        return payoffs, counts

    def missing(self, names: list[list[str]], games: float, known: set[str]) -> list[Profile]:
        """Profiles with fewer games than that; not of those that are all `known`."""
        found: list[Profile] = []
        if all(name in known for own in names for name in own):
            return found
        for index in np.ndindex(*(len(x) for x in names)):
            profile = tuple(names[team][k] for team, k in enumerate(index))
            cell = self.cells.get(profile)
            if cell is None or cell.games < games:
                found.append(profile)
        return found

    def rename(self, old: str, new: str, inherits: Callable[[Profile], bool]) -> None:
        """Let `new` inherit what is known of `old`, in those of the new profiles."""
        for profile, cell in list(self.cells.items()):
            renamed = tuple(new if name == old else name for name in profile)
            if old in profile and inherits(renamed):
                self.cells[renamed] = Cell(cell.games, cell.returns, cell.squares, cell.scores)

    def forget(self, name: str) -> None:
        """Drop all cells of one."""
        for profile in [p for p in self.cells if name in p]:
            del self.cells[profile]
