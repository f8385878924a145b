"""The actor–critic core: one update written out, and what must and must not depend on what."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.learners import (
    ALONE,
    ALONE_GRU,
    DRIFT,
    FEED_FORWARD,
    KEY,
    NUMBERED_GRU,
    SHARED,
    SHARED_GRU,
    TURNS,
    TURNS_CUT,
    group_of,
    prepared,
    update_of,
    updated,
)
from ludus.algorithms.policy_gradient import batch as batches
from ludus.algorithms.policy_gradient.a2c import A2C
from ludus.algorithms.policy_gradient.estimate import prepare
from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.reinforce import REINFORCE
from ludus.algorithms.view import central_input, central_size, view
from ludus.core.algorithm import Learner
from ludus.core.rollout import GroupRollout, Moment, Rollout
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.networks.torso import Network
from toys import Drift, assert_close, assert_same, play


def remembering(learner, seed=0):
    """The learner with critics that remember something."""
    noise = lambda m: jax.random.normal(jax.random.key(seed), m.shape)
    return Learner(learner.shared, jax.tree.map(noise, learner.per_env))


def permuted(rollout: Rollout, order: np.ndarray) -> Rollout:
    """The same experience with the agents of every group numbered in another order: new i is old order[i]."""
    numbers = np.argsort(order)

    def moment(m: Moment | None, axis: int) -> Moment | None:
        if m is None:
            return None
        observation = m.observation if m.seat is not None else jnp.take(m.observation, order, axis)
        seat = None if m.seat is None else jnp.asarray(numbers, m.seat.dtype)[m.seat]
        legal = m.legal if m.legal is None or m.seat is not None else jnp.take(m.legal, order, axis)
        return Moment(observation, legal, jnp.take(m.acting, order, axis), seat, m.state)

    def group(g: GroupRollout) -> GroupRollout:
        slots = lambda x: x if x is None or g.seat is not None else jnp.take(x, order, 2)
        return GroupRollout(
            observation=slots(g.observation),
            legal=slots(g.legal),
            acting=jnp.take(g.acting, order, 2),
            seat=None if g.seat is None else jnp.asarray(numbers, g.seat.dtype)[g.seat],
            action=slots(g.action),
            log_prob=slots(g.log_prob),
            reward=jnp.take(g.reward, order, 2),
            memory=jax.tree.map(lambda m: jnp.take(m, order, 1), g.memory),
            next=moment(g.next, 1),
            last=moment(g.last, 2),
        )

    return eqx.tree_at(lambda r: r.groups, rollout, {name: group(g) for name, g in rollout.groups.items()})


def with_order(learner: Learner, order: np.ndarray, *, stacked: bool) -> Learner:
    """A learner whose critics' memories, and stacked parameters, are in another order of agents."""
    memories = jax.tree.map(lambda m: jnp.take(m, order, 1), learner.per_env)
    if not stacked:
        return Learner(learner.shared, memories)
    groups = jax.tree.map(lambda x: jnp.take(x, order, 0), learner.shared["groups"])
    return Learner({**learner.shared, "groups": groups}, memories)


def test_an_update_of_a2c_is_one_step_of_adam_on_the_loss_written_out():
    """Oracle: the loss of the paper as a plain mean over acting steps, its gradient by JAX, and optax's Adam."""
    learner, rollout = play(SHARED, DRIFT)
    method = A2C(rollout_length=12, network=FEED_FORWARD, anneal=False, max_grad_norm=0.05)
    group, batch = group_of(learner), prepared(method, DRIFT, learner, rollout)
    weight = np.asarray(batch.weight)

    def loss(models):
        x = batch.now.observation
        distribution = models.policy.head(models.policy.torso.step(x, ())[0], batch.legal)
        value = models.value(models.critic.step(x, ())[0])[..., 0]
        log_prob = jnp.take_along_axis(distribution.log_probs, batch.action[..., None], -1)[..., 0]
        entropy = -jnp.where(batch.legal, jnp.exp(distribution.log_probs) * distribution.log_probs, 0).sum(-1)
        mean = lambda y: y[weight].mean()
        errors = jnp.square(value - batch.target)
        return mean(-batch.advantage * log_prob) + 0.5 * 0.5 * mean(errors) - 0.01 * mean(entropy)

    optimiser = optax.chain(optax.clip_by_global_norm(0.05), optax.adam(7e-4, eps=1e-5))
    gradients = jax.grad(loss)(group.models)
    assert optax.global_norm(gradients) > 0.05
    steps, _ = optimiser.update(gradients, optimiser.init(group.models))
    expected = optax.apply_updates(group.models, steps)
    assert_close(group_of(updated(method, learner, rollout)).models, expected, 1e-5)


GAMES = {
    "simultaneous": (DRIFT, SHARED),
    "simultaneous, recurrent": (DRIFT, SHARED_GRU),
    "of turns, recurrent, numbered": (TURNS, NUMBERED_GRU),
    "of turns, recurrent, independent": (TURNS_CUT, ALONE_GRU),
    "simultaneous, independent, one torso": (DRIFT, replace(ALONE_GRU, share_torso=True)),
}


@pytest.mark.parametrize("game", GAMES)
def test_learners_see_the_probabilities_with_which_actors_acted(game):
    """Oracle: the log-probabilities that actors reported, recomputed from a rollout with resets and memory."""
    env, method = GAMES[game]
    learner, rollout = play(method, env)
    group, own = group_of(learner), view(rollout, env.spec, env.spec.groups[0], "local")

    def log_prob(group, own):
        memory = group.models.critic_memory((6, own.reward.shape[-1]))
        batch, _, _ = prepare(method, group.models, group.normaliser, memory, own, rollout)
        return group.models.evaluate(batch)[0].log_prob(batch.action), batch.log_prob, batch.weight

    if method.parameters == "independent":
        found, acted, weight = jax.jit(jax.vmap(log_prob))(group, own.split())
    else:
        found, acted, weight = jax.jit(log_prob)(group, own)
    weight = np.asarray(weight)
    assert weight.any() and not rollout.start.all()
    np.testing.assert_allclose(np.asarray(found)[weight], np.asarray(acted)[weight], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [SHARED, SHARED_GRU], ids=["feed-forward", "recurrent"])
def test_with_shared_parameters_the_numbering_of_agents_does_not_matter(method):
    """Oracle: the update from the same experience with agents in another order."""
    learner, rollout = play(method, DRIFT)
    learner, order = remembering(learner), np.asarray([2, 0, 1])
    other = updated(method, with_order(learner, order, stacked=False), permuted(rollout, order))
    assert_close(group_of(other), group_of(updated(method, learner, rollout)), 1e-5)


@pytest.mark.parametrize(
    ("method", "env"), [(ALONE, DRIFT), (ALONE_GRU, TURNS_CUT)], ids=["simultaneous", "of turns, recurrent"]
)
def test_with_independent_parameters_renumbered_agents_learn_the_same(method, env):
    """Oracle: the update with agents, and their parameters, in another order, put back into the first order."""
    learner, rollout = play(method, env)
    learner, order = remembering(learner), np.roll(np.arange(env.spec.num_agents), 1)
    other = updated(method, with_order(learner, order, stacked=True), permuted(rollout, order))
    expected = with_order(updated(method, learner, rollout), order, stacked=True)
    assert_close(other.shared["groups"], expected.shared["groups"], 1e-5)
    assert_close(other.per_env, expected.per_env, 1e-5)


def test_an_agents_rewards_do_not_reach_the_parameters_of_others():
    """Oracle: huge rewards for agent 1 (its gradients are clipped); the others learn the same to the last bit."""
    learner, rollout = play(ALONE, DRIFT)
    reward = rollout.groups["walkers"].reward
    rich = eqx.tree_at(lambda r: r.groups["walkers"].reward, rollout, reward.at[..., 1].multiply(-1e4))
    mine, theirs = (group_of(updated(ALONE, learner, r)) for r in (rollout, rich))
    of = lambda group, agent: jax.tree.map(lambda x: x[agent], group)
    for agent in (0, 2):
        assert_same(of(theirs, agent), of(mine, agent))
    assert not np.array_equal(of(theirs, 1).models.value.bias, of(mine, 1).models.value.bias)


@pytest.mark.parametrize(
    ("method", "size"), [(SHARED, 12), (ALONE, 1), (SHARED_GRU, 1)], ids=["shared", "independent", "recurrent"]
)
def test_gradients_do_not_depend_on_the_size_of_chunks(method, size, monkeypatch):
    """Oracle: the same update with all rows of a minibatch at once, as many as there are."""
    learner, rollout = play(method, DRIFT)
    assert rollout.groups["walkers"].log_prob.size <= batches.CHUNK
    whole, metrics = update_of(method)(learner, rollout)
    monkeypatch.setattr(batches, "CHUNK", size)
    monkeypatch.setattr(batches, "SEQUENCE_CHUNK", size)
    in_chunks, same_metrics = jax.jit(lambda g, r: method.update(g, r, key=KEY))(learner, rollout)
    assert_close(group_of(in_chunks), group_of(whole), 1e-5)
    assert_close(same_metrics, metrics, 1e-5)


def test_every_step_is_used_once_an_epoch():
    """Oracle: counting; with memory, whole environments, one of each run of neighbours a minibatch."""
    for method in (SHARED, SHARED_GRU):
        learner, rollout = play(method, DRIFT)
        batch = prepared(method, DRIFT, learner, rollout)
        index = np.asarray(batch.shuffle(KEY, 2))
        assert index.shape == ((2, 3) if batch.recurrent else (2, 6))
        assert sorted(index.ravel()) == list(range(index.size))
        if batch.recurrent:
            np.testing.assert_array_equal(np.sort(index // 2, axis=1), [[0, 1, 2]] * 2)


@pytest.mark.parametrize("method", [SHARED, SHARED_GRU], ids=["feed-forward", "recurrent"])
def test_truncated_episodes_are_bootstrapped_at_their_true_last_observation(method):
    """Oracle: the critic stepped by hand through one environment's episodes."""
    learner, rollout = play(method, DRIFT)
    models, critic = group_of(learner).models, group_of(learner).models.critic
    own = view(rollout, DRIFT.spec, DRIFT.spec.groups[0], "local")
    memory = jax.tree.map(lambda m: m + 0.3, critic.initial_memory((6, 3)))
    found, kept = jax.jit(lambda *x: models.values(*x))(own, memory, rollout)
    values, following, last = found.now, found.next, found.last
    step = jax.jit(lambda x, h: critic.step(x, h))
    cuts = 0
    for e in range(6):
        h = jax.tree.map(lambda m, e=e: m[e], memory)
        for t in range(12):
            if rollout.start[t, e]:
                h = jax.tree.map(jnp.zeros_like, h)
            features, h = step(rollout.groups["walkers"].observation[t, e], h)
            np.testing.assert_allclose(values[t, e], models.value(features)[..., 0], rtol=1e-4, atol=1e-5)
            for row in np.flatnonzero(np.asarray(rollout.last_time)[:, e] == t):
                features, _ = step(rollout.groups["walkers"].last.observation[row, e], h)
                np.testing.assert_allclose(last[row, e], models.value(features)[..., 0], rtol=1e-4, atol=1e-5)
                cuts += 1
        features, _ = step(rollout.groups["walkers"].next.observation[e], h)
        np.testing.assert_allclose(following[e], models.value(features)[..., 0], rtol=1e-4, atol=1e-5)
        jax.tree.map(lambda m, own, e=e: np.testing.assert_allclose(m[e], own, rtol=1e-4, atol=1e-5), kept, h)
    assert cuts >= 6


def test_the_step_size_falls_to_zero_over_the_planned_steps():
    """Oracle: Adam's first step is proportional to the step size."""
    learner, rollout = play(SHARED, DRIFT)
    method = A2C(rollout_length=12, network=FEED_FORWARD)

    def change(progress):
        there = eqx.tree_at(lambda r: r.progress, rollout, jnp.asarray(progress, jnp.float32))
        moved = group_of(updated(method, learner, there)).models.policy.head.linear.weight
        return np.asarray(moved - group_of(learner).models.policy.head.linear.weight)

    np.testing.assert_allclose(change(0.75), 0.25 * change(0.0), rtol=1e-3, atol=1e-7)
    assert not change(1.0).any() and change(0.0).any()


@pytest.mark.parametrize(("env", "player"), [(DRIFT, SHARED), (TURNS, NUMBERED_GRU)], ids=["simultaneous", "of turns"])
def test_reinforce_without_a_baseline_learns_only_from_episodes_that_terminate(env, player):
    """Oracle: returns-to-go by hand; steps of episodes cut off by a time limit or the rollout carry no weight."""
    learner, rollout = play(player, env)
    method = REINFORCE(baseline=False, discount=1.0, standardise=False)
    batch, own = prepared(method, env, learner, rollout), rollout.groups[env.spec.groups[0].name]
    ends, cut = (np.asarray(x) for x in (rollout.terminated | rollout.truncated, rollout.truncated))
    agents = np.arange(own.reward.shape[-1])
    owner = np.asarray(own.seat if own.seat is not None else np.broadcast_to(agents, batch.weight.shape))
    for t, e, slot in np.ndindex(owner.shape):
        agent, later = owner[t, e, slot], t + np.flatnonzero(ends[t:, e])
        assert batch.weight[t, e, slot] == (own.acting[t, e, agent] and len(later) > 0 and not cut[later[0], e])
        if batch.weight[t, e, slot]:
            to_go = own.reward[t : later[0] + 1, e, agent].sum()
            np.testing.assert_allclose(batch.advantage[t, e, slot], to_go, rtol=1e-5, atol=1e-6)
    assert 0 < batch.weight.sum() < own.acting.sum()


def test_a_central_critic_sees_all_observations_its_own_agents_first():
    """Oracle: numpy on the observations of one moment, in a game without a global state."""
    env = Drift(agents=3, teams=True)
    shown = env.reset(KEY)[1].observation
    moments = {name: Moment(x, None, jnp.ones(len(x), bool), None, None) for name, x in shown.items()}
    group = env.spec.groups[0]
    (a, b), (c,) = (np.asarray(shown[name]) for name in ("left", "right"))
    central = central_input(env.spec, group, moments)
    np.testing.assert_array_equal(central, [[*a, *b, *c], [*b, *a, *c]])
    assert central_size(env.spec, group) == 9


SPACE = {"observation": Box((3,)), "action": Discrete(2)}
MISFITS = {
    "12 minibatches do not divide 16 steps": (SHARED, {"rollout_length": 16, "minibatches": 12}, {}),
    "3 minibatches do not divide 8 environments per device; 2 would": (SHARED_GRU, {"minibatches": 3}, {}),
    "have no bounds": (SHARED, {}, {"action": Box((2,))}),
    "observations of shape (height, width, channels)": (SHARED, {"network": Network(conv=(4,))}, {}),
    "shows only the mover's": (MAPPO(), {}, {"slots": 1}),
    "share_torso needs a local critic": (MAPPO(), {"share_torso": True}, {}),
    "agent_ids": (ALONE, {"agent_ids": True}, {}),
}


@pytest.mark.parametrize("words", MISFITS)
def test_what_cannot_be_learned_is_refused_with_what_would_fit(words):
    method, changes, space = MISFITS[words]
    group = GroupSpec(**{"name": "agents", "size": 2, "team": "team", "slots": 2, **SPACE, **space})
    problem = replace(method, **changes).check(GameSpec("toy/game", (group,), "common"), 8)
    assert problem is not None and words in problem


def test_what_can_be_learned_is_not_refused():
    for env, method in GAMES.values():
        assert method.check(env.spec, 6) is None


@pytest.mark.parametrize("method", [SHARED_GRU, ALONE_GRU], ids=["shared", "independent"])
@pytest.mark.parametrize("env", [DRIFT, TURNS_CUT], ids=["at once", "in turns"])
def test_memories_that_were_kept_give_the_values_of_a_second_pass(env, method):
    """Oracle: the pass over all steps that the critic makes where memories were not kept."""
    method = replace(method, share_torso=True)
    learner, rollout = play(method, env)
    (group,) = rollout.groups.values()
    assert jax.tree.leaves(group.memories)
    forgotten = Rollout(
        **{
            **vars(rollout),
            "groups": {name: GroupRollout(**{**vars(g), "memories": ()}) for name, g in rollout.groups.items()},
        }
    )
    assert_close(updated(method, learner, rollout), updated(method, learner, forgotten), 2e-5)
    wrong = GroupRollout(**{**vars(group), "memories": group.memories + 1.0})
    spoiled = Rollout(**{**vars(rollout), "groups": dict.fromkeys(rollout.groups, wrong)})
    with pytest.raises(AssertionError):  # what is kept is what is read
        assert_close(updated(method, learner, spoiled), updated(method, learner, forgotten), 2e-5)
