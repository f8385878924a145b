"""COMA's counterfactual advantage and PQN's λ-returns against their definitions, and both on games that are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

import ludus
from ludus.algorithms.policy_gradient.coma import COMA, counterfactual_advantage
from ludus.algorithms.value.objective import targets
from ludus.algorithms.value.pqn import PQN, PQNVDN
from ludus.core.errors import UsageError
from ludus.networks.torso import Network
from ludus.runtime.device import Program
from ludus.runtime.rollout import collect, init_actors
from toys import Drift, Pull


@pytest.fixture(autouse=True, scope="module")
def fast_programs(quick_compiler):
    """Here programs run for longer than they compile."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


SMALL = Network(hidden=(32,), activation="relu")


def trained(algorithm, env, steps, num_envs=32, seeds=1):
    program = Program(algorithm, env, num_envs, steps, seeds=seeds, devices=1)
    state = program.init(0)
    compiled = program.compile(state)
    for _ in range(program.calls):
        state, report = compiled(state)
        jax.block_until_ready(report)
    return program, state


def test_the_counterfactual_advantage_of_the_papers_kind_of_example():
    q, policy = jnp.array([8.0, 1.0, 3.0]), jnp.array([0.5, 0.25, 0.25])
    found = [float(counterfactual_advantage(q, policy, jnp.asarray(a))) for a in range(3)]
    np.testing.assert_allclose(found, [3, -4, -2], atol=1e-6)
    assert abs(np.dot(policy, found)) < 1e-6  # a baseline does not change the expected gradient


def test_counterfactual_advantages_do_not_grow_noisier_with_more_agents():
    """Additive reward Σ a_i, a ~ Bernoulli(½): a shared return has variance N/4, an agent's own part always ¼."""
    agents, samples = 64, 40_000
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 2, (samples, agents))
    total = actions.sum(1, keepdims=True)
    q = jnp.asarray(total[..., None] - actions[..., None] + np.arange(2), jnp.float32)  # own action, others fixed
    policy = jnp.full(q.shape, 0.5)
    own = np.asarray(counterfactual_advantage(q, policy, jnp.asarray(actions)))
    np.testing.assert_allclose(own, actions - 0.5, atol=1e-4)
    assert abs(total.var() - agents / 4) < 0.5
    assert abs(own.var() - 0.25) < 1e-3
    score = actions - 0.5  # ∇ log π of a Bernoulli's logit
    shared = np.var(score[:, 0] * (total[:, 0] - agents / 2))
    assert np.var(score[:, 0] * own[:, 0]) < 1e-6 < 1e-3 * shared  # the gradient's variance: none against N/16


def test_the_critic_has_no_room_for_the_action_it_values():
    env = Drift(agents=3, horizon=4)
    method = COMA(rollout_length=6, network=SMALL)
    learner = method.init(env.spec, 4, key=jax.random.key(0))
    unit = learner.shared["groups"]["walkers"]
    seen = 3 * 3 + 2 * 3 + 3  # observations, the others' actions, who it is
    assert unit.critic.torso.before.linears[0].weight.shape == (seen, 32)
    assert unit.critic.read(jnp.zeros(32)).shape == (3, 1)


@pytest.mark.parametrize("parameters", ["shared", "independent"])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_coma_walks_to_the_right(parameters, memory):
    """Places pay, so everybody should go right whenever that is allowed."""
    network = Network(hidden=(32,), activation="relu", memory=memory, memory_size=16)
    method = COMA(learning_rate=5e-3, rollout_length=8, parameters=parameters, network=network)
    env = Drift(agents=2, horizon=4, masked=True, out=False)
    program, state = trained(method, env, 20_000)
    policy = program.policies(state)["walkers"]
    seen, legal = jnp.array([[0.1, 0.0, 0.5], [-0.2, 0.0, 0.5]]), jnp.array([[True] * 3, [True, True, False]])
    np.testing.assert_array_equal(policy.act(seen, legal).action, [2, 1])


def test_coma_coordinates_a_team():
    program, state = trained(
        COMA(learning_rate=5e-3, rollout_length=8, agent_ids=True, network=SMALL),
        ludus.make("matrix/coordination"),
        20_000,
        seeds=3,
    )
    for seed in range(3):
        action = np.asarray(program.policies(state, seed)["agents"].act(jnp.ones((2, 1))).action)
        assert action[0] == action[1]


def test_coma_refuses_what_it_cannot_learn():
    with pytest.raises(UsageError, match="needs discrete actions"):
        Program(COMA(), Pull(), 4, 1_000)
    with pytest.raises(UsageError, match="teams whose agents act at once"):
        Program(COMA(), ludus.make("matrix/rock_paper_scissors"), 4, 1_000)


def test_pqn_fits_values_to_the_lambda_returns_of_rlax():
    env = Drift(agents=2, horizon=6, out=False)
    method = PQN(rollout_length=15, trace=0.65, discount=0.9, network=SMALL)
    learner = method.init(env.spec, 5, key=jax.random.key(0))
    policies = method.policy(learner)
    _, rollout, _ = collect(env, policies, init_actors(env, policies, jax.random.split(jax.random.key(1), 5)), 15)
    unit = learner.shared["units"]["walkers"]
    found = targets(method, unit.models, unit.models, rollout, env.spec, list(env.spec.groups))
    network, own = unit.models.networks["walkers"], rollout.groups["walkers"]
    best = lambda seen: network.read(network.torso.step_core(seen, ())[0])[..., 0].max(-1)
    for e in range(5):
        ends = [t for t in range(15) if rollout.truncated[t, e]]
        for begin, end in zip([0, *(t + 1 for t in ends)], [*ends, 14], strict=True):
            if begin > end:
                continue
            row = [k for k in range(3) if end in ends and rollout.last_time[k, e] == end]
            final = own.last.observation[row[0], e] if row else own.next.observation[e]
            seen = jnp.concatenate([own.observation[begin + 1 : end + 1, e], final[None]])
            for i in range(2):
                expected = rlax.lambda_returns(
                    own.reward[begin : end + 1, e, i], jnp.full(end - begin + 1, 0.9), best(seen)[:, i], 0.65
                )
                np.testing.assert_allclose(found.value[begin : end + 1, e, i, 0], expected, rtol=1e-4, atol=1e-5)


def test_pqn_vdn_learns_the_two_step_game_as_sums_can():
    """The exact least-squares fit of sums at ε = 1 is worth 7."""
    method = PQNVDN(
        learning_rate=1e-3,
        anneal=True,
        explore=1.0,
        final_explore=1.0,
        rollout_length=2,
        agent_ids=True,
        trace=0.0,
        network=Network(hidden=(64,), activation="relu"),
    )
    _, state = trained(method, ludus.make("matrix/two_step"), 60_000, num_envs=64)
    network = jax.tree.map(lambda x: x[0], state.learner.shared["units"]["team"].models).networks["agents"]
    values = lambda place: network.read(network.torso.step_core(jnp.broadcast_to(jnp.eye(3)[place], (2, 3)), ())[0])
    table = lambda place: np.add.outer(*np.asarray(values(place)[..., 0]))
    np.testing.assert_allclose(table(1), 7, atol=0.3)
    np.testing.assert_allclose(table(2), [[-1.5, 2.5], [2.5, 6.5]], atol=0.5)


def test_pqn_has_no_replay_and_says_how_many_minibatches_fit():
    program, _ = trained(PQN(rollout_length=4, network=SMALL), Drift(), 500)
    assert program.bytes["experience"] == 0
    with pytest.raises(UsageError, match="3 would"):
        Program(PQN(minibatches=4), Drift(), 6, 1_000)
