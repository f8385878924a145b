"""Targets and gradient steps of off-policy actor–critic methods: one group at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from ludus.algorithms.joint import as_vector, critic_input
from ludus.algorithms.look import acting
from ludus.algorithms.off_policy.inference import divergence, expected
from ludus.algorithms.off_policy.models import Networks, Unit, distribution, members, outputs, values
from ludus.algorithms.owners import average, descend
from ludus.algorithms.view import Everywhere, moments
from ludus.core.algorithm import Metrics
from ludus.core.rollout import Moment, Rollout
from ludus.core.sharding import sum_over_shards
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.returns import backups
from ludus.networks.actor import ActorNetwork
from ludus.networks.critic import Critic


def bootstrap(
    method: Any, spec: GameSpec, units: dict[str, Unit], rollout: Rollout, key: Key[Array, ""]
) -> dict[str, Everywhere]:
    """By group, `[…, agent, 1]`: what the target critics give what the target actors would do."""
    play = {g.name: members(rollout.groups[g.name], rollout) for g in spec.groups}

    def at(seen: dict[str, Moment], place: str, key: Key[Array, ""]) -> dict[str, Array]:
        done, scores = {}, {}
        for i, group in enumerate(spec.groups):
            drawn = play[group.name]
            member = None if drawn is None else getattr(drawn, place)
            actor = units[group.name].target.actor
            y = outputs(actor, group, seen[group.name].observation, member, independent=method.independent)
            found = distribution(group, y, seen[group.name])
            done[group.name], scores[group.name] = method.choose(
                group.action, found, jax.random.fold_in(key, i), target=True
            )
        result = {}
        for i, group in enumerate(spec.groups):
            unit, others = units[group.name], done
            if unit.inferred is not None:
                others = unit.inferred.others(spec, seen, jax.random.fold_in(key, len(spec.groups) + i))
            x = critic_input(spec, group, seen, done[group.name], others, central=method.central(group))
            q = values(unit.target.critic, x, independent=method.independent).min(-1)
            result[group.name] = (q - jnp.exp(unit.log_temperature) * scores[group.name])[..., None]
        return result

    seen = moments(rollout)
    key_now, key_next, key_last = jax.random.split(key, 3)
    following = at(seen.next, "next", key_next)
    last = None if seen.last is None else at(seen.last, "last", key_last)
    now = at(seen.now, "now", key_now)
    return {name: Everywhere(now[name], following[name], None if last is None else last[name]) for name in now}


def infer(method: Any, spec: GameSpec, units: dict[str, Unit], rollout: Rollout) -> tuple[dict[str, Unit], Metrics]:
    """Fit ideas of the others to the newest experience; how far they are from the truth."""
    if not method.infer_others:
        return units, {}
    now, new, metrics = moments(rollout).now, {}, {}
    for owner in spec.groups:
        unit = units[owner.name]
        assert unit.inferred is not None
        ideas = unit.inferred.fit(
            spec,
            owner,
            now,
            rollout,
            method.optimiser(),
            entropy_weight=method.infer_entropy,
            rate=method.learning_rate,
            target_rate=method.target_rate,
        )
        new[owner.name] = Unit(**{**vars(unit), "inferred": ideas})
        for group in spec.groups:
            if group.name == owner.name and group.size == 1:
                continue
            member = rollout.groups[group.name].extras.get("member")
            actor, seen = units[group.name].networks.actor, now[group.name]
            y = outputs(actor, group, seen.observation, member, independent=method.independent)
            idea = expected(ideas.policies[group.name], group, seen)
            kl = divergence(distribution(group, y, seen), idea, owner, group, method.noise)
            metrics[f"{owner.name}/kl_of_{group.name}"] = kl
    return new, metrics


def losses(
    method: Any,
    spec: GameSpec,
    group: GroupSpec,
    unit: Unit,
    rollout: Rollout,
    value: Everywhere,
    rate: Array | float,
    updates: Int[Array, ""],
    key: Key[Array, ""],
) -> tuple[Unit, Metrics]:
    """One gradient step of a group's critic and, each `policy_every`-th time, of its actor and targets."""
    own, now, independent = rollout.groups[group.name], moments(rollout).now, method.independent
    done = {g.name: as_vector(g.action, rollout.groups[g.name].action) for g in spec.groups}
    see = lambda mine: critic_input(spec, group, now, mine, done, central=method.central(group))
    mean = lambda x, valid: average(x, valid, independent=independent)
    step = lambda p, g, s: descend(method.optimiser(), p, g, s, rate, independent=independent)
    per_agent = 1.0 / group.size if independent else 1.0
    moves = acting(rollout, group)
    target, valid = backups(own.reward, value, moves, rollout, discount=method.discount, steps=method.n_step)
    target = jax.lax.stop_gradient(target)

    def critic_loss(critic: Critic) -> tuple[Array, Metrics]:
        q = values(critic, see(done[group.name]), independent=independent)
        loss = mean(0.5 * jnp.square(q - target).sum(-1), valid)
        return loss, {"critic_loss": loss * per_agent, "value": mean(q.mean(-1), valid) * per_agent}

    gradient, metrics = sum_over_shards(jax.grad(critic_loss, has_aux=True)(unit.networks.critic))
    critic, critic_optimiser = step(unit.networks.critic, gradient, unit.critic_optimiser)
    drawn = own.extras.get("member")
    alpha = jnp.exp(unit.log_temperature)

    def actor_loss(actor: ActorNetwork) -> tuple[Array, tuple[Array, Metrics]]:
        y = outputs(actor, group, own.observation, drawn, independent=independent)
        action, score = method.choose(group.action, distribution(group, y, now[group.name]), key, target=False)
        q = values(critic, see(action), independent=independent)
        gain = q.min(-1) if method.stochastic else q[..., 0]
        size = jnp.square(y).mean(-1)
        loss = mean(alpha * score - gain + method.regulariser * size, own.acting)
        surprise = mean(score, own.acting) * per_agent
        return loss, (score, {"actor_loss": loss * per_agent, "log_prob": surprise})

    def improve(unit: Unit) -> tuple[Unit, Metrics]:
        gradient, (score, found) = jax.grad(actor_loss, has_aux=True)(unit.networks.actor)
        gradient, found = sum_over_shards((gradient, found))
        actor, optimiser = step(unit.networks.actor, gradient, unit.actor_optimiser)
        networks = Networks(actor, critic)
        target = jax.tree.map(lambda t, n: t + method.target_rate * (n - t), unit.target, networks)
        log_alpha, alpha_optimiser = unit.log_temperature, unit.temperature_optimiser
        if method.learns_temperature:
            excess = jax.lax.stop_gradient(score) + method.target_entropy(group)
            loss = lambda x: mean(-jnp.exp(x) * excess, own.acting)
            slope = sum_over_shards(jax.grad(loss)(log_alpha))
            log_alpha, alpha_optimiser = step(log_alpha, slope, alpha_optimiser)
            found["temperature"] = jnp.exp(log_alpha).mean()
        return Unit(networks, target, optimiser, critic_optimiser, log_alpha, alpha_optimiser, unit.inferred), found

    def wait(unit: Unit) -> tuple[Unit, Metrics]:
        _, shapes = jax.eval_shape(improve, unit)
        networks = Networks(unit.networks.actor, critic)
        kept = Unit(**{**vars(unit), "networks": networks, "critic_optimiser": critic_optimiser})
        return kept, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    if method.policy_every == 1:
        unit, found = improve(unit)
    else:
        unit, found = jax.lax.cond((updates + 1) % method.policy_every == 0, improve, wait, unit)
        found = {name: x * method.policy_every for name, x in found.items()}  # means over the steps that took place
    return unit, {**metrics, **found}
