"""Leagues of exact best responses: policies are plans of a game tree, payoffs and NashConv are computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ludus.core.errors import UsageError
from ludus.core.spec import GameSpec
from ludus.core.tree import GameTree
from ludus.equilibria import exact
from ludus.equilibria.cfr import require_zero_sum
from ludus.equilibria.sequence_form import SequenceForm, sequence_form
from ludus.league.arena import DamagedPolicyError, Job, Trained, exact_cell
from ludus.league.member import Member
from ludus.league.meta_solvers import Meta
from ludus.league.payoffs import Cell, Profile
from ludus.league.view import LIVE
from ludus.storage.arrays import DamagedFileError
from ludus.storage.policy_store import PolicyStore

ANSWERS = 64  # of regret matching for the least exploitable mixture
MOST_PROFILES = 4096  # of one call, so that memory stays bounded
MOST_PLANS = 4096  # that are kept beside those which are asked for


class ExactPayoffs:
    """Expected returns and NashConv of named plans of one game."""

    def __init__(self, game: SequenceForm, tree: GameTree, teams: tuple[str, ...]):
        self.game, self.teams = game, teams
        self.plans: dict[str, dict[int, np.ndarray]] = {}  # name -> player -> plan
        self.scale = max(float(np.abs(tree.utility).max()), 1e-12)

    def evaluate(self, profiles: list[Profile]) -> list[Cell]:
        """Exact cells; two players' profiles as one product of matrices."""
        if not profiles:
            return []
        if self.game.players == 2 and self.game.zero_sum:
            own = list(dict.fromkeys(p[0] for p in profiles))
            other = list(dict.fromkeys(p[1] for p in profiles))
            gradients = np.asarray(_gradients(self.game, _padded([self.plans[n][1] for n in other])))
            matrix = np.stack([self.plans[n][0] for n in own]) @ gradients[:, : len(other)]
            row, column = {n: k for k, n in enumerate(own)}, {n: k for k, n in enumerate(other)}
            found = [matrix[row[p[0]], column[p[1]]] for p in profiles]
            return [exact_cell(np.array([x, -x]), self.scale) for x in found]
        cells = []
        for begin in range(0, len(profiles), MOST_PROFILES):
            block = profiles[begin : begin + MOST_PROFILES]
            plans = [_padded([self.plans[p[i]][i] for p in block]) for i in range(self.game.players)]
            returns = np.asarray(_returns(self.game, plans))[:, : len(block)]
            cells += [exact_cell(np.array(r, float), self.scale) for r in returns.T]
        return cells

    def forget_but(self, names: Iterable[str]) -> None:
        """Keep so many plans at most, the newest of them, and those with these names."""
        wanted = set(names)
        for name in list(self.plans)[: max(0, len(self.plans) - MOST_PLANS)]:
            if name not in wanted:
                del self.plans[name]

    def mixed(self, mixtures: dict[str, dict[str, float]]) -> list[Array]:
        """Each player's average plan."""
        plans = []
        for player, team in enumerate(self.teams):
            weights = mixtures[team]
            plans.append(jnp.asarray(sum(w * self.plans[n][player] for n, w in weights.items())))
        return plans

    def nash_conv(
        self, mixtures: dict[str, dict[str, float]], joint: dict[Profile, float] | None, told: bool = False
    ) -> float:
        """Of mixtures; of a joint distribution what each could gain by leaving it for one plan (a CCE's gap), or if
        `told`, for one plan in the place of each that it may be told (a CE's gap)."""
        if joint is None:
            return float(_nash_conv(self.game, self.mixed(mixtures)))
        profiles, weights = list(joint), np.array(list(joint.values()))
        total = 0.0
        for i in range(self.game.players):
            plans = [_padded([self.plans[p[j]][j] for p in profiles]) for j in range(self.game.players)]
            parts = [[k for k, p in enumerate(profiles) if p[i] == n] for n in dict.fromkeys(p[i] for p in profiles)]
            for part in parts if told else [list(range(len(profiles)))]:
                padded = np.zeros(plans[0].shape[1])
                padded[part] = weights[part]
                gain, _ = _deviation(self.game, i, plans, jnp.asarray(padded))
                total += float(gain)
        return total


@dataclass
class ExactArena:
    """A tree whose members answer with exact best responses."""

    spec: GameSpec
    tree: GameTree
    store: PolicyStore
    roles: dict[str, str]
    members: tuple[Member, ...] = ()
    first: str = "first"  # where populations begin: at everybody's `first` action, or `uniform`
    exact_payoffs: bool = True
    _files: dict[str, tuple[str, int]] = field(default_factory=dict)  # of policies: file and player
    _newest_of: dict[str, str] = field(default_factory=dict)  # of members: what they froze last

    def __post_init__(self) -> None:
        if len(set(self.roles.values())) != len(self.roles):
            raise UsageError(
                "exact best responses are one player's, so every player needs a population: --roles separate"
            )
        if self.first not in ("first", "uniform"):
            raise UsageError(f"populations of plans begin at the 'first' action or 'uniform', not '{self.first}'")

    @cached_property
    def game(self) -> SequenceForm:
        """The tree as its players see it."""
        with jax.enable_x64(True):
            return sequence_form(self.tree)

    @cached_property
    def payoffs(self) -> ExactPayoffs:
        """Everything that is computed from plans."""
        with jax.enable_x64(True):
            return ExactPayoffs(self.game, self.tree, self.spec.teams)

    def _player(self, role: str) -> int:
        return next(i for i, team in enumerate(self.spec.teams) if self.roles[team] == role)

    def admit(self, name: str, role: str, file: str, member: str = "") -> None:
        """See `Arena.admit`."""
        self._files[name] = (file, self._player(role))
        self._newest_of[member] = name

    def _newest(self, name: str) -> str:
        """The name, or in the place of `@member` the newest policy that it froze (else of its role)."""
        if not name.startswith(LIVE):
            return name
        member = name.removeprefix(LIVE)
        if member in self._newest_of:
            return self._newest_of[member]
        player = self._player(next(m.role for m in self.members if m.name == member))
        return [n for n, (_, p) in self._files.items() if p == player][-1]

    def _know(self, names: Iterable[str]) -> None:
        """Load plans. Raises `DamagedPolicyError` for a damaged file."""
        names = list(dict.fromkeys(names))
        for name in names:
            if name not in self.payoffs.plans:
                file, player = self._files[name]
                try:
                    self.payoffs.plans[name] = {player: self.store.get(file)["plan"]}
                except DamagedFileError as error:
                    # Nobody's newest policy any more, or `@member` would be asked for it again and again.
                    self._newest_of = {m: n for m, n in self._newest_of.items() if n != name}
                    del self._files[name]
                    raise DamagedPolicyError(name, error) from error
        self.payoffs.forget_but(names)

    def _plan(self, plan: Any, gain: float = 0.0) -> Trained:
        return Trained({"plan": np.asarray(plan)}, {"kind": "plan", "game": self.spec.name}, 0, {}, {"gain": gain})

    def prepare(self) -> None:
        """See `Arena.prepare`: nothing."""

    def start(self, member: Member, seed: int) -> Trained:
        """See `Arena.start`."""
        with jax.enable_x64(True):
            side = self.game.sides[self._player(member.role)]
            first = jax.nn.one_hot(jnp.argmax(side.legal, 1), side.shape[1], dtype=self.game.payoff.dtype)
            return self._plan(side.plan(first if self.first == "first" else side.uniform()))

    def train(self, jobs: list[Job]) -> list[Trained]:
        """See `Arena.train`: exact best responses to what the others do."""
        known = [self._frozen(job) for job in jobs]
        self._know(n for job in known for p in job.match.profiles for n in p)
        with jax.enable_x64(True):
            return [self._respond(job) for job in known]

    def _frozen(self, job: Job) -> Job:
        """A best response knows no live policies: the newest frozen ones are as they are now."""
        profiles = tuple(tuple(self._newest(n) for n in p) for p in job.match.profiles)
        return replace(job, match=replace(job.match, profiles=profiles))

    def _respond(self, job: Job) -> Trained:
        player, players = self._player(job.member.role), self.game.players
        plans, weights = self.payoffs.plans, job.match.weights
        if players == 2:  # one mixed plan says it all, whoever it is made of
            other = 1 - player
            mixed = sum(w * plans[p[0]][other] for p, w in zip(job.match.profiles, weights, strict=True))
            gain, plan = _response(self.game, player, jnp.asarray(mixed))
            return self._plan(plan, float(gain))
        size = _size(len(weights))
        columns: list[Array] = []
        for j in range(players):
            distance = (j - player) % players
            if j == player:
                columns.append(jnp.zeros((self.game.sides[j].shape[0] * self.game.sides[j].shape[1] + 1, size)))
            else:
                columns.append(_padded([plans[p[distance - 1]][j] for p in job.match.profiles]))
        padded = np.zeros(size)
        padded[: len(weights)] = weights
        _, plan = _deviation(self.game, player, columns, jnp.asarray(padded))
        return self._plan(plan)

    def reset(self, member: Member, answer: str, seed: int) -> None:
        """Best responses remember nothing."""

    def evaluate(self, profiles: list[Profile], games: int, seed: int) -> list[Cell]:
        """See `Arena.evaluate`: computed, whatever `games`."""
        self._know(n for p in profiles for n in p)
        with jax.enable_x64(True):
            return self.payoffs.evaluate(profiles)

    def nash_conv(
        self, mixtures: dict[str, dict[str, float]], joint: dict[Profile, float] | None, told: bool = False
    ) -> float:
        """See `Arena.nash_conv`."""
        self._know([*(n for m in mixtures.values() for n in m), *(n for profile in joint or () for n in profile)])
        with jax.enable_x64(True):
            return self.payoffs.nash_conv(mixtures, joint, told)

    def least_exploitable(self, names: list[list[str]]) -> Meta:
        """See `Arena.least_exploitable`: by regret matching against exact best responses. Two players, zero-sum."""
        require_zero_sum(self.game, "anytime-psro")
        self._know(n for own in names for n in own)
        mixtures = []
        with jax.enable_x64(True):
            for player, own in enumerate(names):
                plans = _padded([self.payoffs.plans[n][player] for n in own])
                mixture = np.asarray(_least_exploitable(self.game, player, plans, len(own)))[: len(own)]
                mixtures.append(mixture / mixture.sum())
        return Meta(tuple(mixtures))

    def save(self) -> dict[str, Any]:
        """See `Arena.save`: nothing."""
        return {}

    def restore(self, saved: dict[str, Any]) -> dict[str, Exception]:
        """See `Arena.restore`."""
        return {}


def _size(count: int) -> int:
    """The next power of two, so that few shapes compile; from 8 on."""
    return 1 << max(3, (max(1, count) - 1).bit_length())


def _padded(plans: list[np.ndarray]) -> Array:
    """`[sequence, plan]`, with zeros behind."""
    table = np.zeros((len(plans[0]), _size(len(plans))), plans[0].dtype)
    table[:, : len(plans)] = np.stack(plans, 1)
    return jnp.asarray(table)


@jax.jit
def _gradients(game: SequenceForm, plans: Float[Array, "sequence plan"]) -> Float[Array, "sequence plan"]:
    return game.sides[0].gradient([plans])


@jax.jit
def _returns(game: SequenceForm, plans: list[Array]) -> Float[Array, "player plan"]:
    return exact.plans_returns(game, plans)


@jax.jit
def _nash_conv(game: SequenceForm, plans: list[Array]) -> Float[Array, ""]:
    return exact.plans_nash_conv(game, plans)


def _best(game: SequenceForm, player: int, gradient: Array) -> tuple[Array, Array]:
    side = game.sides[player]
    value, response = exact.best_response_to(side, gradient)
    return value, side.plan(response)


_response = jax.jit(
    lambda game, player, other: _best(game, player, game.sides[player].gradient([other])), static_argnums=1
)


def _joint_deviation(
    game: SequenceForm, player: int, plans: list[Array], weights: Float[Array, " profile"]
) -> tuple[Array, Array]:
    """The gain of a best response to a joint distribution of plans over what it gave, and its plan."""
    gradient = game.gradient(player, plans) * weights
    value, plan = _best(game, player, gradient.sum(1))
    return value - (gradient * plans[player]).sum(), plan


@partial(jax.jit, static_argnums=1)
def _least_exploitable(
    game: SequenceForm, player: int, plans: Float[Array, "sequence plan"], count: int | Array
) -> Float[Array, " plan"]:
    """Regret matching+ over the first `count` plans against the other player's best responses, averaged by time."""
    real = jnp.arange(plans.shape[1]) < count

    def mixture(regret: Array) -> Array:
        positive = jnp.where(real, jnp.maximum(regret, 0.0), 0.0)
        total = positive.sum()
        return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1.0), real / real.sum())

    def step(t: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        regret, total = state
        x = mixture(regret)
        other = game.sides[1 - player]
        _, response = exact.best_response_to(other, other.gradient([plans @ x]))
        earned = game.sides[player].gradient([other.plan(response)]) @ plans
        return jnp.maximum(regret + earned - earned @ x, 0.0), total + (t + 1.0) * x

    zero = jnp.zeros(plans.shape[1], plans.dtype)
    total = jax.lax.fori_loop(0, ANSWERS, step, (zero, zero))[1]
    return total / total.sum()


_deviation = jax.jit(_joint_deviation, static_argnums=1)
