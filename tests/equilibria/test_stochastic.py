"""Stochastic games against brute force and published values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ludus.core.errors import UsageError
from ludus.core.stochastic import StochasticGame, from_tensors
from ludus.envs.registry import make
from ludus.envs.stochastic import grid_game, grid_world, random_game, soccer
from ludus.equilibria import shapley
from ludus.equilibria.normal_form import solve_zero_sum


def test_soccer_has_the_published_value_and_as_many_mixed_states():
    game = soccer()
    assert game.states == 760
    found = shapley.solve(game)
    kick_offs = found.value[np.flatnonzero(game.start)]
    np.testing.assert_allclose(kick_offs, [0.218484, -0.218484], atol=1e-5)
    q = (game.probability * (game.reward[..., 0] + 0.9 * found.value[game.outcome])).sum(-1)
    saddle = q.min(2).max(1) >= q.max(1).min(1) - 1e-9
    assert (~saddle).sum() == 56
    # Who carries the ball at kick-off goes for the goal, to the west.
    np.testing.assert_allclose(found.strategies[0][np.flatnonzero(game.start)[0]], [0, 0, 0, 1, 0], atol=1e-9)


def test_littmans_evaluation_of_soccer():
    """A draw with probability 0.1 a step: the share of decided games that the exact policy wins."""
    game = soccer()
    found = shapley.solve(game)
    uniform = np.full((game.states, 5), 0.2)

    def share(own, other):
        """Goals end the game: win probabilities are returns of +1 goals and of −1 goals apart."""
        wins = []
        for sign in (1, -1):
            goal = (game.reward[..., 0] == sign).astype(float)
            live = (game.reward[..., 0] == 0).astype(float)
            weight = own[:, :, None, None] * other[:, None, :, None] * game.probability
            chain = np.zeros((game.states, game.states))
            index = np.indices(game.outcome.shape)[0]
            np.add.at(chain, (index.reshape(-1), game.outcome.reshape(-1)), (weight * live).reshape(-1))
            now = (weight * goal).sum((1, 2, 3))
            wins.append(game.start @ np.linalg.solve(np.eye(game.states) - 0.9 * chain, now))
        return wins[0] / sum(wins)

    # Several strategies are optimal; against random play they differ a little.
    np.testing.assert_allclose(share(found.strategies[0], uniform), 0.9947, atol=2e-3)
    np.testing.assert_allclose(share(uniform, uniform), 0.5, atol=1e-9)
    # Against the exact policy the best a challenger can do is half of the decided games; the discount is the draw.
    value, _ = shapley.best_response(game, found.strategies[0], 1, discount=0.9)
    np.testing.assert_allclose(game.start @ value, 0.0, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_shapley_iteration_solves_random_games(seed):
    game = random_game(states=6, actions=3, players=2, zero_sum=True, discount=0.8, seed=seed)
    found = shapley.solve(game)
    q = game.expected_reward[..., 0] + 0.8 * game.transition() @ found.value  # Bellman's equation, by scipy's program
    np.testing.assert_allclose([solve_zero_sum(q[s])[2] for s in range(6)], found.value, atol=1e-8)
    for player, sign in ((0, 1), (1, -1)):
        best, _ = shapley.best_response(game, found.strategies[1 - player], player)
        np.testing.assert_allclose(best, sign * found.value, atol=1e-7)
    np.testing.assert_allclose(shapley.policy_values(game, found.strategies)[:, 0], found.value, atol=1e-7)


def test_grid_games_have_the_published_stage_values():
    """Nash value iteration with one selection rule gives Hu & Wellman's table at the start."""
    for which, expected in ((1, {(1, 2): (97.03, 97.03), (2, 0): (97.03, 97.03), (1, 0): (95.06, 95.06)}),):
        game = grid_game(which)
        at = int(np.argmax(game.start))
        value = np.zeros((game.states, 2))
        from ludus.algorithms.tabular.joint import NashQ

        solve = jax.jit(jax.vmap(NashQ().solve))
        for _ in range(60):
            q = (
                game.probability[..., None]
                * (game.reward + 0.99 * np.where(game.terminal[:, None], 0, value)[game.outcome])
            ).sum(-2)
            value = np.asarray(solve(jnp.asarray(q), jnp.asarray(game.legal[0]), jnp.asarray(game.legal[1]))[0])
        for joint, entry in expected.items():
            np.testing.assert_allclose(q[at][joint], entry, atol=0.01)
        np.testing.assert_allclose(value[at], 97.0299, atol=1e-3)


@pytest.mark.parametrize("name", ["soccer", "grid_game_1", "grid_game_2", "grid_world", "random"])
def test_the_environment_plays_the_tensors(name):
    """Frequencies of what is met equal the tensors' probabilities."""
    env = make(f"stochastic/{name}")
    game = env.game
    keys = jax.random.split(jax.random.key(0), 4000)
    rng = np.random.default_rng(0)
    state, _step = jax.vmap(env.reset)(keys)
    starts = np.bincount(np.asarray(state.place), minlength=game.states) / 4000
    np.testing.assert_allclose(starts, game.start, atol=0.04)
    for _ in range(3):
        place = int(rng.choice(np.flatnonzero(~game.terminal)))
        actions = [int(rng.choice(np.flatnonzero(mask[place]))) for mask in game.legal]
        at = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), state)
        at = type(at)(jnp.full_like(at.place, place), jnp.zeros_like(at.steps))
        moves = {g.name: jnp.full((4000, 1), a) for g, a in zip(env.spec.groups, actions, strict=True)}
        new, shown = jax.vmap(env.step)(keys, at, moves)
        found = np.bincount(np.asarray(new.place), minlength=game.states) / 4000
        np.testing.assert_allclose(found, game.transition()[(place, *actions)], atol=0.04)
        for i, g in enumerate(env.spec.groups):
            mean = np.asarray(shown.reward[g.name]).mean()
            expected = game.expected_reward[(place, *actions)][i]
            np.testing.assert_allclose(mean, expected, atol=0.05 * max(1.0, np.abs(game.reward).max()))
        np.testing.assert_array_equal(shown.terminated, game.terminal[np.asarray(new.place)])
        assert (np.asarray(shown.observation[env.spec.groups[0].name])[:, 0].argmax(-1) == np.asarray(new.place)).all()


def test_bad_games_get_a_sentence():
    rng = np.random.default_rng(0)
    p, r = rng.dirichlet(np.ones(3), (3, 2, 2)), rng.normal(size=(3, 2, 2, 2))
    assert from_tensors(p, r, discount=0.9).states == 3
    for bad, words in (
        (lambda: from_tensors(p[..., :2], r, discount=0.9), "do not fit"),
        (lambda: from_tensors(p * 0.5, r, discount=0.9), "add up to 1"),
        (lambda: from_tensors(p, r * np.nan, discount=0.9), "NaN"),
        (lambda: from_tensors(p, r, discount=1.5), r"\[0, 1\]"),
        (lambda: from_tensors(p, r[..., :1], discount=0.9), "rewards for 1 players"),
        (lambda: shapley.solve(from_tensors(p, r, discount=0.9)), "zero-sum"),
        (lambda: make("stochastic/random", players=3), "two players"),
        (lambda: make("stochastic/soccer", max_steps=-1), "at least 1"),
    ):
        with pytest.raises(UsageError, match=words):
            bad()
    assert isinstance(grid_world(), StochasticGame)
