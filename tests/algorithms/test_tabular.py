"""Tabular learners against the solutions of their games, five seeds each."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ludus
from ludus.algorithms.tabular.joint import CorrelatedQ, FriendOrFoeQ, MinimaxQ, NashQ
from ludus.algorithms.tabular.q_learning import QLearning
from ludus.core.algorithm import Learner
from ludus.core.errors import UsageError
from ludus.envs.stochastic import soccer
from ludus.equilibria import exact, shapley
from ludus.equilibria.policies import tabulate
from ludus.equilibria.sequence_form import sequence_form
from ludus.runtime.device import Program

SEEDS = 5


def learn(algorithm, env, steps, num_envs=1, seeds=SEEDS):
    """The learners' shared state, seeds leading."""
    program = Program(algorithm, env, num_envs, steps, seeds=seeds)
    state = program.init(0)
    compiled = program.compile(state)
    for _ in range(program.calls):
        state, report = compiled(state)
        jax.block_until_ready(report)
    return state.learner.shared


def test_q_learning_solves_mitchells_grid_world_exactly():
    expected = np.zeros((6, 4))
    expected[0] = [0, 72.9, 90, 0]
    expected[1] = [0, 81, 100, 81]
    expected[3] = [81, 0, 81, 0]
    expected[4] = [90, 0, 90, 72.9]
    expected[5] = [100, 0, 0, 81]
    found = learn(
        QLearning(learning_rate=1.0, discount=0.9, explore=1.0, final_explore=1.0),
        ludus.make("stochastic/grid_world"),
        4000,
    )
    np.testing.assert_allclose(found["tables"][:, 0], np.broadcast_to(expected, (SEEDS, 6, 4)), rtol=1e-6)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_q_learning_converges_on_a_solved_mdp(seed):
    env = ludus.make("stochastic/random", players=1, zero_sum=False, states=5, actions=2, seed=seed)
    game = env.game
    p, r, q = game.transition(), game.expected_reward[..., 0], np.zeros((5, 2))
    for _ in range(500):
        q = r + 0.9 * p @ q.max(1)
    algorithm = QLearning(rate="linear", learning_rate=0.5, final_rate=0.001, discount=0.9, final_explore=1.0)
    found = np.asarray(learn(algorithm, env, 60_000, num_envs=4, seeds=1)["tables"][0, 0])
    # Episodes are cut at 100 steps, which is no end: values are those of the endless game.
    np.testing.assert_allclose(found, q, atol=0.15)
    gap = np.sort(q, 1)[:, -1] - np.sort(q, 1)[:, -2]
    clear = gap > 0.3
    np.testing.assert_array_equal(found.argmax(1)[clear], q.argmax(1)[clear])


@pytest.mark.parametrize(
    ("name", "play"),
    [
        ("matching_pennies", [0.5, 0.5]),
        ("rock_paper_scissors", [1 / 3] * 3),
        ("biased_rock_paper_scissors", [1 / 16, 10 / 16, 5 / 16]),
    ],
)
def test_minimax_q_solves_zero_sum_matrices(name, play):
    algorithm = MinimaxQ(
        learning_rate=1.0, rate="exponential", initial=1.0, explore_share=0, final_explore=0.2, discount=0.9
    )
    found = learn(algorithm, ludus.make(f"matrix/{name}"), 5000)["tables"]
    np.testing.assert_allclose(found.value[:, :, 0], 0, atol=1e-4)
    np.testing.assert_allclose(found.play[:, :, 0], np.broadcast_to(play, (SEEDS, 2, len(play))), atol=1e-3)


@pytest.mark.slow
def test_minimax_q_learns_soccer():
    """Littman's settings, 10^6 steps: |V − 0.2185| < 0.05, and 35 % of decided games against its best responder."""
    env = ludus.make("stochastic/soccer")
    algorithm = MinimaxQ(
        learning_rate=1.0,
        rate="exponential",
        final_rate=0.01,
        initial=1.0,
        explore_share=0,
        final_explore=0.2,
        discount=0.9,
    )
    found = learn(algorithm, env, 1_000_000)["tables"]
    game = soccer()
    kick_off = np.flatnonzero(game.start)[0]
    rows = []
    for k in range(SEEDS):
        play = np.asarray(found.play[k, 0], float)
        worst, _ = shapley.best_response(game, play / play.sum(1, keepdims=True), 1, tolerance=1e-9)
        share = decided_share(game, play / play.sum(1, keepdims=True))
        rows.append((float(found.value[k, 0, kick_off]), float(-game.start @ worst), share))
    print(json.dumps(rows))
    for value, _, share in rows:
        assert abs(value - 0.2185) < 0.05
        assert share >= 0.35


def decided_share(game, play):
    """The share of decided games that player 0 wins against the responder who maximises his own share.

    A step is the last with probability 0.1; the responder's best share is found by bisecting on a price for losing.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        price = (low + high) / 2  # can the responder's share of decided games exceed `price`?
        reward = np.where(game.reward[..., 1] > 0, 1 - price, np.where(game.reward[..., 1] < 0, -price, 0.0))
        weight = play[:, :, None, None] * game.probability
        live = game.reward[..., 0] == 0
        value = np.zeros(game.states)
        for _ in range(200):
            q = (weight * (reward + 0.9 * live * value[game.outcome])).sum((1, 3))
            value = q.max(1)
        low, high = (price, high) if game.start @ value > 0 else (low, price)
    return 1 - low


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("which", [1, 2])
def test_nash_q_finds_the_equilibrium_values_of_the_grid_games(which):
    env = ludus.make(f"stochastic/grid_game_{which}")
    rates = (
        {"rate": "constant", "learning_rate": 1.0}
        if which == 1
        else {"rate": "exponential", "learning_rate": 1.0, "final_rate": 0.001}
    )
    algorithm = NashQ(explore=1.0, final_explore=1.0, **rates)
    found = learn(algorithm, env, 30_000 if which == 1 else 300_000)["tables"]
    at = int(np.argmax(env.game.start))
    left, right, up = 0, 1, 2
    q = np.asarray(found.q[:, at])
    print(json.dumps({"grid game": which, "values": np.asarray(found.value[:, :, at]).tolist()}))
    if which == 1:
        expected = {(right, left): (95.06, 95.06), (right, up): (97.03, 97.03), (up, left): (97.03, 97.03)}
        tolerance = 1.0
    else:
        expected = {(right, up): (98.01, 49.005), (up, left): (49.005, 98.01)}
        tolerance = 4.0
    for joint, entry in expected.items():
        np.testing.assert_allclose(q[:, *joint], np.broadcast_to(entry, (SEEDS, 2)), atol=tolerance)
    if which == 1:
        np.testing.assert_allclose(found.value[:, :, at], 97.03, atol=1.0)
    else:  # the one passes at the side, the other tries the barrier
        np.testing.assert_allclose(
            np.sort(found.value[:, :, at], 1), np.broadcast_to([49.005, 98.01], (SEEDS, 2)), atol=4
        )


def test_friends_coordinate_and_foes_are_feared():
    env = ludus.make("matrix/coordination")
    for other, value in (("friend", 1.0), ("foe", 0.5)):
        algorithm = FriendOrFoeQ(other=other, learning_rate=1.0, final_explore=1.0, explore=1.0)
        found = learn(algorithm, env, 200)["tables"]
        np.testing.assert_allclose(found.value[:, :, 0], value, atol=1e-5)


def test_correlated_q_finds_the_best_correlated_equilibrium():
    algorithm = CorrelatedQ(learning_rate=1.0, final_explore=1.0, explore=1.0)
    found = learn(algorithm, ludus.make("matrix/shapley"), 500)["tables"]
    np.testing.assert_allclose(found.value.sum(1)[:, 0], 1.0, atol=1e-4)


@pytest.mark.parametrize(("name", "sums"), [("prisoners_dilemma", {-4}), ("penalty", {4, 20}), ("climbing", {10, 12})])
def test_independent_q_learning_plays_as_published(name, sums):
    """Tan's independent learners: always betray; never the climbing game's optimum; penalty's safe cell or optimum."""
    found = learn(QLearning(learning_rate=0.1, explore_share=0.8), ludus.make(f"matrix/{name}"), 5000, seeds=20)
    payoffs = np.asarray(ludus.make(f"matrix/{name}").payoffs)
    ends = {round(float(payoffs[tuple(q[:, 0].argmax(-1))].sum())) for q in np.asarray(found["tables"])}
    assert ends <= sums


def test_sequential_games_credit_the_mover_with_what_follows():
    """Q-learning against a random opponent is exact in Kuhn poker: its values are those of the best response."""
    env = ludus.make("spiel/kuhn_poker", observe="index")
    algorithm = QLearning(
        learning_rate=0.3, rate="linear", final_rate=0.001, explore=1.0, final_explore=1.0, discount=1.0
    )
    shared = learn(algorithm, env, 120_000, num_envs=8, seeds=1)
    game = sequence_form(env.tree, np.float32)
    # With everybody exploring uniformly, each agent's table is the best response to uniform play.
    learner = Learner(jax.tree.map(lambda x: x[0], shared))
    policy = algorithm.policy(learner)["players"]
    for player in range(2):
        best, _ = exact.best_response(game, game.uniform(), player)
        index = sequence_form(env.tree, np.float32)
        shown = jnp.eye(env.tree.num_infosets)
        object.__setattr__(env.tree, "observation", np.asarray(shown))
        own = tabulate(index, env.tree, policy, explore=False)
        mixed = tuple(own[i] if i == player else game.uniform()[i] for i in range(2))
        np.testing.assert_allclose(exact.expected_returns(game, mixed)[player], best, atol=0.02)


def test_teams_may_learn_differently():
    env = ludus.make("stochastic/random", states=4, actions=2)
    algorithm = ludus.PerTeam({"player_0": QLearning(), "player_1": QLearning(learning_rate=0.5)})
    alone = learn(QLearning(), env, 500, num_envs=2, seeds=2)
    assert not algorithm.splits
    found = learn(algorithm, env, 500, num_envs=2, seeds=2)
    assert found["teams"]["player_0"]["tables"].shape == (2, 1, 4, 2)
    assert alone["tables"].shape == (2, 2, 4, 2)


def test_misfits_get_a_sentence():
    for algorithm, name, words in (
        (QLearning(), "gym/CartPole-v1", "one-hots"),
        (QLearning(), "spiel/kuhn_poker", "--env.observe index"),
        (MinimaxQ(), "stochastic/grid_world", "for two players"),
        (NashQ(), "spiel/kuhn_poker", "one-hots"),
        (QLearning(), "gym/Pendulum-v1", "discrete actions"),
    ):
        with pytest.raises(UsageError, match=words):
            Program(algorithm, ludus.make(name), 1, 100)
    env = ludus.make("spiel/kuhn_poker", observe="index")
    with pytest.raises(UsageError, match="simultaneous"):
        Program(NashQ(), env, 1, 100)
    with pytest.raises(UsageError, match="one transition after the other"):
        Program(QLearning(), env, 4, 100, devices=2)


def test_tables_are_stored_and_act_again(tmp_path):
    run = ludus.train(MinimaxQ(discount=0.9), "matrix/matching_pennies", steps=2000, run_dir=tmp_path / "run")
    policy = ludus.load_policy(next((tmp_path / "run" / "policies").rglob("*.safetensors")))
    np.testing.assert_allclose(policy.play, next(iter(run.policy.values())).play, atol=1e-6)
    decision = policy.act(jnp.ones((1, 1)), key=jax.random.key(0))
    assert decision.action.shape == (1,)
