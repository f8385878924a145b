"""Actors: step a block of environments with the policies of all groups and record what learners need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ludus.core.game import Environment, TimeStep
from ludus.core.policy import Decision, Memory, Policy
from ludus.core.rollout import GroupRollout, Moment, Rollout
from ludus.core.sharding import sum_over_shards
from ludus.core.spec import GroupSpec
from ludus.runtime.cast import Cast, Everybody, Pairing, Records
from ludus.runtime.reset import reset_where

Policies = dict[str, Policy] | Cast  # one policy for each group, or a learner and those that it meets


class Actors(eqx.Module):
    """A block of running environments; every array leads with the environment axis."""

    env: Any
    step: TimeStep
    memory: dict[str, Memory]
    key: Key[Array, " env"]
    start: Bool[Array, " env"]
    returns: dict[str, Float[Array, "env agent"]]  # of the running episode
    length: Int[Array, " env"]
    pairing: Pairing | None = None  # who plays the running episode, where there are opponents


class Episodes(eqx.Module):
    """Sums over the episodes that ended; returns are per agent: the mean over a group's agents of their returns."""

    count: Float[Array, ""]
    length: Float[Array, ""]
    returns: dict[str, Float[Array, ""]]
    squares: dict[str, Float[Array, ""]]
    skipped: Float[Array, ""]
    records: Records | None = None  # who beat whom, where there are opponents

    def total(self) -> Episodes:
        """Over all shards."""
        return sum_over_shards(self)


class _Record(eqx.Module):
    """What one step leaves behind."""

    step: TimeStep  # before the step
    start: Array
    decisions: dict[str, Decision]  # with the learner's memory, where it is kept
    mine: dict[str, Array] | None  # which agents the learner plays; None: all
    reward: dict[str, Array]
    terminated: Array
    truncated: Array


class _Last(eqx.Module):
    """Buffers of true last moments; see `Rollout`."""

    count: Int[Array, " env"]
    time: Int[Array, "row env"]
    step: TimeStep  # rows lead


def players(policies: Policies) -> Cast | Everybody:
    """Policies as those who play."""
    return policies if isinstance(policies, Cast) else Everybody(dict(policies))


def init_actors(env: Environment, policies: Policies, key: Key[Array, " env"]) -> Actors:
    """Begin an episode in every environment; environment e uses only `key[e]`."""
    cast = players(policies)
    keys = jax.vmap(jax.random.split)(key)
    state, step = jax.vmap(env.reset)(keys[:, 0])
    envs = key.shape[0]
    strong = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, x.dtype), tree)
    return Actors(
        env=strong(state),
        step=strong(step),
        memory={g.name: cast.memory(g, envs) for g in env.spec.groups},
        key=keys[:, 1],
        start=jnp.ones(envs, bool),
        returns={g.name: jnp.zeros((envs, g.size)) for g in env.spec.groups},
        length=jnp.zeros(envs, jnp.int32),
        pairing=cast.begin(jnp.arange(envs, dtype=jnp.int32)),
    )


def play_step(
    env: Environment,
    policies: Policies,
    actors: Actors,
    last: _Last | None,
    time: Array,
    *,
    explore: bool,
    skip: bool,
    keep: bool,
) -> tuple[Actors, _Last | None, _Record, Episodes]:
    """Step every environment once, with auto-reset. `skip` cuts episodes whose reward or observation is not finite;
    `keep` records the memory after the step."""
    groups, cast = env.spec.groups, players(policies)
    keys = jax.vmap(lambda k: jax.random.split(k, 3 + len(groups)))(actors.key)
    begin = actors.start
    pairing: Any = cast.draw(begin, actors.pairing, keys[:, 2])  # type: ignore[arg-type]
    memory = {g.name: fresh_where(begin, cast, g, actors.memory[g.name]) for g in groups}
    decisions = {
        g.name: cast.decide(g, actors.step, memory[g.name], keys[:, 3 + i], pairing, explore)
        for i, g in enumerate(groups)
    }
    actions = {name: d.action for name, d in decisions.items()}
    state, step = jax.vmap(env.step)(keys[:, 1], actors.env, actions)
    state, step = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), (state, step), (actors.env, actors.step))
    skipped = jnp.zeros_like(step.terminated)
    if skip:
        step, skipped = _cut_bad(step, _nobody(actors.step))
    done = step.done
    returns = {name: total + step.reward[name] for name, total in actors.returns.items()}
    length = actors.length + 1
    records = cast.record(done & ~skipped, returns, pairing)
    episodes = _count_episodes(done & ~skipped, returns, length, skipped, records)
    record = _Record(
        step=actors.step,
        start=begin,
        decisions={
            name: Decision(d.action, d.log_prob, cast.own_memory(d.memory) if keep else (), d.extras)
            for name, d in decisions.items()
        },
        mine=None if pairing is None else {g.name: cast.mine(g, pairing) for g in groups},  # type: ignore[misc]
        reward=step.reward,
        terminated=step.terminated,
        truncated=step.truncated,
    )
    if last is not None:
        last = jax.lax.cond(step.truncated.any(), _remember, lambda last, *_: last, last, step, time)
    state, step = reset_where(env, done, keys[:, 2], state, step)
    if skip:
        step = _hushed(step)
    actors = Actors(
        env=state,
        step=step,
        memory={name: d.memory for name, d in decisions.items()},
        key=keys[:, 0],
        start=done,
        returns={name: jnp.where(done[:, None], 0.0, total) for name, total in returns.items()},
        length=jnp.where(done, 0, length),
        pairing=pairing,
    )
    return actors, last, record, episodes


def fresh_where(begin: Bool[Array, " env"], cast: Cast | Everybody, group: GroupSpec, memory: Memory) -> Memory:
    """Initial memory in the environments whose episode begins."""
    if not jax.tree.leaves(memory):
        return memory
    choose = lambda new, old: jnp.where(begin.reshape(-1, *[1] * (old.ndim - 1)), new, old)
    return jax.tree.map(choose, cast.memory(group, begin.shape[0]), memory)


def _cut_bad(step: TimeStep, bad: Bool[Array, " env"]) -> tuple[TimeStep, Array]:
    """Cut episodes that are `bad` or have a value that is not finite: as truncated, with nobody acting, so that nothing
    learns of it."""
    for x in (*step.observation.values(), *step.reward.values(), step.state):
        if x is not None and jnp.issubdtype(x.dtype, jnp.floating):
            bad |= ~jnp.isfinite(x).reshape(x.shape[0], -1).all(1)
    clean = lambda x: jnp.where(bad.reshape(-1, *[1] * (x.ndim - 1)), jnp.zeros_like(x), x)
    step = TimeStep(
        observation=jax.tree.map(clean, step.observation),
        legal=step.legal,
        acting=jax.tree.map(clean, step.acting),
        reward=jax.tree.map(clean, step.reward),
        terminated=step.terminated & ~bad,
        truncated=step.truncated | bad,
        state=None if step.state is None else clean(step.state),
        seat=step.seat,
    )
    return step, bad


def _hushed(step: TimeStep) -> TimeStep:
    """A first moment; where it is not finite, with nobody acting: its episode is cut at the next step."""
    hushed, _ = _cut_bad(step, jnp.zeros_like(step.terminated))
    return replace(hushed, terminated=step.terminated, truncated=step.truncated)


def _nobody(step: TimeStep) -> Bool[Array, " env"]:
    """Where no agent of any group acts."""
    nobody: Array = ~jnp.any(jnp.stack([acting.any(-1) for acting in step.acting.values()]), axis=0)
    return nobody


def _count_episodes(
    done: Array, returns: dict[str, Array], length: Array, skipped: Array, records: Records | None
) -> Episodes:
    weight = done.astype(jnp.float32)
    means = {name: total.mean(-1) for name, total in returns.items()}
    pick = lambda x: jnp.sum(jnp.where(done, x, 0.0))
    return Episodes(
        count=weight.sum(),
        length=pick(length.astype(jnp.float32)),
        returns={name: pick(x) for name, x in means.items()},
        squares={name: pick(x * x) for name, x in means.items()},
        skipped=skipped.astype(jnp.float32).sum(),
        records=records,
    )


def _remember(last: _Last, step: TimeStep, time: Array) -> _Last:
    """Store the last moments of the episodes that are truncated now."""
    cut = step.truncated & ~step.terminated
    row = jnp.where(cut, last.count, last.time.shape[0])
    column = jnp.arange(cut.shape[0])
    put = lambda buffer, x: buffer.at[row, column].set(x, mode="drop")
    return _Last(last.count + cut, put(last.time, time), jax.tree.map(put, last.step, _seen(step)))


def _seen(step: TimeStep) -> TimeStep:
    """A moment without its reward, which belongs to the step before."""
    return TimeStep(
        step.observation, step.legal, step.acting, {}, step.terminated, step.truncated, step.state, step.seat
    )


def _empty_last(env: Environment, step: TimeStep, length: int) -> _Last | None:
    """Buffers as large as truncations can be many: one each `horizon` steps."""
    if not env.spec.truncates:
        return None
    rows = 1 + (length - 1) // (env.spec.horizon or 1)
    envs = step.terminated.shape[0]
    return _Last(
        jnp.zeros(envs, jnp.int32),
        jnp.full((rows, envs), length, jnp.int32),
        jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), _seen(step)),
    )


def collect(
    env: Environment,
    policies: Policies,
    actors: Actors,
    length: int,
    *,
    progress: Float[Array, ""] | float = 0.0,
    explore: bool = True,
    skip: bool = False,
    keep_memories: bool = False,
) -> tuple[Actors, Rollout, Episodes]:
    """Play `length` steps in every environment; the experience, and sums over the episodes that ended.

    `keep_memories` where who learns from it is who plays, so that memories are still those of its parameters.
    """
    cast = players(policies)
    if skip:
        actors = replace(actors, step=_hushed(actors.step))
    memory = {name: cast.own_memory(m) for name, m in actors.memory.items()}

    def scan_step(carry: tuple[Actors, Any], time: Array) -> tuple[tuple[Actors, Any], tuple[_Record, Episodes]]:
        actors, last, record, episodes = play_step(
            env, policies, *carry, time, explore=explore, skip=skip, keep=keep_memories
        )
        return (actors, last), (record, episodes)

    last = _empty_last(env, actors.step, length)
    (actors, last), (record, episodes) = jax.lax.scan(scan_step, (actors, last), jnp.arange(length, dtype=jnp.int32))
    groups = {}
    for g in env.spec.groups:
        if g.name not in cast.own:
            continue
        decision = record.decisions[g.name]
        ours = None if record.mine is None else record.mine[g.name]
        after = None if actors.pairing is None else cast.mine(g, actors.pairing)  # type: ignore[arg-type]
        groups[g.name] = GroupRollout(
            observation=record.step.observation[g.name],
            legal=record.step.legal.get(g.name),
            acting=_only(record.step.acting[g.name], ours),
            seat=record.step.seat.get(g.name),
            action=decision.action,
            log_prob=decision.log_prob,
            reward=record.reward[g.name],
            memory=memory[g.name],
            next=_moment(actors.step, g.name, after),
            last=None if last is None else _moment(last.step, g.name, _at_last(ours, last.time)),
            extras=decision.extras,
            memories=decision.memory,
        )
    rollout = Rollout(
        groups=groups,
        state=record.step.state,
        start=record.start,
        terminated=record.terminated,
        truncated=record.truncated,
        last_time=None if last is None else last.time,
        progress=jnp.asarray(progress, jnp.float32),
    )
    return actors, rollout, jax.tree.map(lambda x: x.sum(0), episodes)


def _moment(step: TimeStep, name: str, ours: Array | None) -> Moment:
    acting = _only(step.acting[name], ours)
    return Moment(step.observation[name], step.legal.get(name), acting, step.seat.get(name), step.state)


def _only(acting: Array, ours: Array | None) -> Array:
    """Those who act and whom the learner plays: nobody learns from what others do."""
    return acting if ours is None else acting & ours


def _at_last(ours: Array | None, time: Int[Array, "row env"]) -> Array | None:
    """Whom the learner played in episodes that were truncated."""
    if ours is None:
        return None
    row: Array = ours[jnp.minimum(time, ours.shape[0] - 1), jnp.arange(time.shape[1])]
    return row
