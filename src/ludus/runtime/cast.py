"""Who plays whom: one learner among frozen policies, drawn anew for every episode and pinned to it.

The frozen policies of a group are one stacked pytree of `slot`s. An episode has a *profile*: which slot plays each
of the other teams, or the learner itself. Rows of a batch that are played by the same slot are brought together in
tiles, so that many opponents cost about as much as one.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ludus.core.game import TimeStep
from ludus.core.policy import Decision, Memory, Policy
from ludus.core.sharding import sum_over_shards
from ludus.core.spec import GameSpec, GroupSpec
from ludus.networks.acting import Acts

LEARNER = -1  # in the place of a slot: the learner plays there
SMALLEST_TILE = 8


class Pairing(eqx.Module):
    """Who plays in each environment's running episode."""

    profile: Int[Array, " env"]
    seat: Int[Array, " env"]  # the learner's team, by index; the profile's entries follow it in turn


class Records(eqx.Module):
    """Sums over the episodes that ended, by profile and the learner's seat."""

    games: Float[Array, "profile seat"]
    returns: Float[Array, "profile seat team"]  # of each team: the mean over its agents
    squares: Float[Array, "profile seat team"]
    scores: Float[Array, "profile seat team"]  # 1 for a win, 1/2 for a draw

    def total(self) -> Records:
        """Over all shards."""
        return sum_over_shards(self)


class Matches(eqx.Module):
    """Whom one learner meets, and how far it is in its plan."""

    profiles: Int[Array, "*seed profile other"]  # the slot of each other team, in turn from the learner's; or LEARNER
    weights: Float[Array, "*seed profile"]  # how often each is drawn
    seats: Int[Array, "*seed seats"]  # the teams that the learner may take, by index; environments take them in turn
    progress: Float[Array, "*seed two"]  # the share of the planned steps taken before, and after
    settings: dict[str, Float[Array, "*seed"]] = eqx.field(default_factory=dict)  # hyperparameters of its own


class Opposition(eqx.Module):
    """Frozen policies, and whom each learner meets; the policies are one for all learners."""

    frozen: dict[str, Policy]  # by group, arrays lead with a slot axis; groups that only the learner plays lack
    matches: Matches


class Everybody(eqx.Module):
    """One policy for each group, and nobody else: what a `Cast` is without opponents."""

    own: dict[str, Policy]

    def begin(self, index: Int[Array, " env"]) -> None:
        """Nothing is drawn."""

    def draw(self, begins: Bool[Array, " env"], pairing: None, key: Key[Array, " env"]) -> None:
        """Nothing is drawn."""

    def mine(self, group: GroupSpec, pairing: None) -> None:
        """All are."""

    def memory(self, group: GroupSpec, envs: int) -> Memory:
        """At the start of an episode."""
        return self.own[group.name].initial_memory((envs, group.size))

    def own_memory(self, memory: Memory) -> Memory:
        """What a learner sees of memory: all of it."""
        return memory

    def decide(
        self, group: GroupSpec, step: TimeStep, memory: Memory, key: Key[Array, " env"], pairing: None, explore: bool
    ) -> Decision:
        """One group's decisions in all environments."""
        act = lambda s, m, k: decide(self.own[group.name], group, s, m, k, explore)
        return jax.vmap(act)(step, memory, key)

    def record(self, done: Bool[Array, " env"], returns: dict[str, Array], pairing: None) -> None:
        """Nothing is recorded."""


class Cast(eqx.Module):
    """The learner's policies and those that it meets."""

    own: dict[str, Policy]  # by group: only those that the learner may play
    frozen: dict[str, Policy]
    matches: Matches
    spec: GameSpec = eqx.field(static=True)

    def begin(self, index: Int[Array, " env"]) -> Pairing:
        """Before the first episode; its profile is drawn when it begins."""
        return Pairing(jnp.zeros_like(index), self.matches.seats[index % self.matches.seats.shape[0]])

    def draw(self, begins: Bool[Array, " env"], pairing: Pairing, key: Key[Array, " env"]) -> Pairing:
        """New profiles where episodes begin."""
        edges = jnp.cumsum(self.matches.weights)
        point = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 1)))(key) * edges[-1]
        drawn = jnp.minimum(jnp.searchsorted(edges, point, side="right"), edges.shape[0] - 1)
        return Pairing(jnp.where(begins, drawn.astype(pairing.profile.dtype), pairing.profile), pairing.seat)

    def who(self, pairing: Pairing) -> Int[Array, "env team"]:
        """The slot that plays each team, or LEARNER."""
        teams = len(self.spec.teams)
        if self.matches.profiles.shape[1] == teams:  # nobody learns: profiles name all teams in order
            return self.matches.profiles[pairing.profile]
        distance = (jnp.arange(teams) - pairing.seat[:, None]) % teams
        others = self.matches.profiles[pairing.profile]
        chosen = jnp.take_along_axis(others, jnp.maximum(distance - 1, 0), axis=1) if teams > 1 else distance
        return jnp.where(distance == 0, LEARNER, chosen)

    def mine(self, group: GroupSpec, pairing: Pairing) -> Bool[Array, "env agent"]:
        """Which agents the learner plays."""
        who = self.who(pairing)[:, _teams(self.spec, group)]
        return who == LEARNER

    def memory(self, group: GroupSpec, envs: int) -> Memory:
        """The memories of both kinds of player at the start of an episode."""
        batch = (envs, group.size)
        own = self.own[group.name].initial_memory(batch) if group.name in self.own else ()
        frozen = _slot(self.frozen[group.name], 0).initial_memory(batch) if group.name in self.frozen else ()
        return own, frozen

    def own_memory(self, memory: Memory) -> Memory:
        """The learner's part."""
        return memory[0]

    def decide(
        self, group: GroupSpec, step: TimeStep, memory: Memory, key: Key[Array, " env"], pairing: Pairing, explore: bool
    ) -> Decision:
        """One group's decisions in all environments."""
        own, other = memory
        who = self.who(pairing)[:, _teams(self.spec, group)]  # [env, agent]
        if group.name not in self.frozen:
            ours = jax.vmap(lambda s, m, k: decide(self.own[group.name], group, s, m, k, explore))(step, own, key)
            return Decision(ours.action, ours.log_prob, (ours.memory, ()), ours.extras)
        theirs = _frozen_decisions(self.frozen[group.name], group, step, other, key, who, explore)
        if group.name not in self.own:
            return Decision(theirs.action, theirs.log_prob, ((), theirs.memory), theirs.extras)
        ours = jax.vmap(lambda s, m, k: decide(self.own[group.name], group, s, m, k, explore))(step, own, key)
        seat = step.seat.get(group.name)
        mine = (who if seat is None else jnp.take_along_axis(who, seat, axis=1)) == LEARNER  # [env, slot]
        pick = lambda a, b: jnp.where(mine.reshape(mine.shape + (1,) * (a.ndim - mine.ndim)), a, b)
        return Decision(
            pick(ours.action, theirs.action),
            pick(ours.log_prob, theirs.log_prob),
            (ours.memory, theirs.memory),
            ours.extras,
        )

    def record(self, done: Bool[Array, " env"], returns: dict[str, Array], pairing: Pairing) -> Records:
        """What the episodes that end now add."""
        earned = team_returns(self.spec, returns)
        score = team_scores(self.spec, earned)
        profiles, teams = self.matches.weights.shape[0], earned.shape[1]
        at = jnp.where(done, pairing.profile, profiles), pairing.seat
        weight = done.astype(jnp.float32)
        empty = jnp.zeros((profiles, teams, teams))
        add = lambda x: empty.at[at].add(jnp.where(done[:, None], x, 0.0), mode="drop")
        games = jnp.zeros((profiles, teams)).at[at].add(weight, mode="drop")
        return Records(games, add(earned), add(jnp.square(earned)), add(score))


def decide(
    policy: Policy, group: GroupSpec, step: TimeStep, memory: Memory, key: Key[Array, ""] | None, explore: bool
) -> Decision:
    """One group's decision in one environment; memory is per agent, and only movers' changes."""
    name = group.name
    legal = step.legal.get(name)
    seat = step.seat.get(name)
    if seat is None:
        return policy.act(step.observation[name], legal, memory, key=key, explore=explore)
    mine = jax.tree.map(lambda m: m[seat], memory)
    decision = policy.act(step.observation[name], legal, mine, key=key, explore=explore, agent=seat)
    return Decision(
        decision.action,
        decision.log_prob,
        jax.tree.map(lambda m, new: m.at[seat].set(new), memory, decision.memory),
        decision.extras,
    )


def team_returns(spec: GameSpec, returns: dict[str, Array]) -> Float[Array, "env team"]:
    """Each team's return: the mean over its agents."""
    columns = []
    for team in spec.teams:
        parts = []
        for group in spec.groups:
            if group.rivals and team in group.teams:
                i = group.teams.index(team)
                parts.append(returns[group.name][:, i : i + 1])
            elif group.team == team:
                parts.append(returns[group.name])
        columns.append(jnp.concatenate(parts, 1).mean(1))
    return jnp.stack(columns, 1)


def team_scores(spec: GameSpec, earned: Float[Array, "env team"]) -> Float[Array, "env team"]:
    """1 for a win, 0 for a loss, 1/2 for a draw or where nobody wins.

    A team wins by a return above `win_return` where the game defines it, else by more than every other team's.
    """
    teams = earned.shape[1]
    if teams == 1:
        won = earned > (0.0 if spec.win_return is None else spec.win_return)
        return won.astype(jnp.float32)
    if spec.win_return is not None:
        won = earned > spec.win_return
    else:
        others = jnp.where(jnp.eye(teams, dtype=bool), -jnp.inf, earned[:, None, :]).max(-1)
        won = earned > others
    alone = won & (won.sum(1, keepdims=True) == 1)
    return jnp.where(alone.any(1, keepdims=True), alone.astype(jnp.float32), 0.5)


def _teams(spec: GameSpec, group: GroupSpec) -> Int[Array, " agent"]:
    """The index of each agent's team."""
    names = list(group.teams) if group.rivals else [group.team] * group.size
    return jnp.asarray([spec.teams.index(name) for name in names])


def _slot(stack: Any, index: Any) -> Any:
    return jax.tree.map(lambda x: x[index], stack)


def _frozen_decisions(
    stack: Any,
    group: GroupSpec,
    step: TimeStep,
    memory: Memory,
    key: Key[Array, " env"],
    who: Int[Array, "env agent"],
    explore: bool,
) -> Decision:
    """Decisions of all frozen players of a group; rows that nobody of them plays are slot 0's, and meaningless.

    A team's group is decided as a whole; rivals row by row, as each may be somebody else.
    """
    observation, legal, seat = (x.get(group.name) for x in (step.observation, step.legal, step.seat))
    envs = who.shape[0]
    if not group.rivals:
        act = lambda policy, unit, k: policy.act(unit[0], unit[1], unit[2], key=k, explore=explore)
        return _tiled(stack, jnp.maximum(who[:, 0], 0), (observation, legal, memory), key, act)
    rows = 1 if seat is not None else group.size
    agent = jnp.broadcast_to(jnp.arange(group.size), (envs, group.size)) if seat is None else seat
    mover = jnp.take_along_axis(who, agent, axis=1).reshape(-1)
    flat = lambda x: x.reshape(envs * rows, 1, *x.shape[2:])
    own = memory if seat is None else jax.tree.map(lambda m: m[jnp.arange(envs)[:, None], seat], memory)
    keys = key if rows == 1 else jax.vmap(lambda k: jax.random.split(k, rows))(key).reshape(-1)
    units = (flat(observation), None if legal is None else flat(legal), jax.tree.map(flat, own), flat(agent))
    act = lambda policy, unit, k: policy.act(unit[0], unit[1], unit[2], key=k, explore=explore, agent=unit[3])
    found = _tiled(stack, jnp.maximum(mover, 0), units, keys, act)
    back = lambda x: x.reshape(envs, rows, *x.shape[2:])
    kept = jax.tree.map(back, found.memory)
    if seat is not None:
        kept = jax.tree.map(lambda m, new: m.at[jnp.arange(envs)[:, None], seat].set(new), memory, kept)
    return Decision(back(found.action), back(found.log_prob), kept, jax.tree.map(back, found.extras))


def _tiled(stack: Any, slot: Int[Array, " unit"], units: Any, key: Key[Array, " unit"], act: Any) -> Decision:
    """`act(policy, unit, key)` for every unit with its own slot's policy, in tiles of units of the same slot."""
    slots, count = jax.tree.leaves(stack)[0].shape[0], slot.shape[0]
    if slots == 1:
        policy = _slot(stack, 0)
        return jax.vmap(lambda unit, k: act(policy, unit, k))(units, key)
    tile = max(SMALLEST_TILE, 1 << max(0, (count // (2 * slots)).bit_length() - 1))
    tiles = count // tile + min(slots, count)
    needed = jnp.zeros(slots, jnp.int32).at[slot].add(1)
    first = jnp.cumsum((needed + tile - 1) // tile) - (needed + tile - 1) // tile  # the first tile of each slot
    order = jnp.argsort(slot, stable=True)
    rank = jnp.arange(count) - (jnp.cumsum(needed) - needed)[slot[order]]
    place = first[slot[order]] * tile + rank
    member = jnp.full(tiles * tile, 0, jnp.int32).at[place].set(order.astype(jnp.int32))
    owner = jnp.zeros(tiles, jnp.int32).at[place // tile].set(slot[order])
    where = jnp.zeros(count, jnp.int32).at[order].set(place.astype(jnp.int32))
    gather = lambda x: x[member].reshape(tiles, tile, *x.shape[1:])

    def one(policy_index: Array, unit: Any, k: Any) -> Decision:
        policy: Acts = _slot(stack, policy_index)
        return jax.vmap(lambda u, one_key: act(policy, u, one_key))(unit, k)

    found = jax.vmap(one)(owner, jax.tree.map(gather, units), gather(key))
    return jax.tree.map(lambda x: x.reshape(tiles * tile, *x.shape[2:])[where], found)
