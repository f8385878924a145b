"""Compiled games on device against OpenSpiel stepped by hand."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import pyspiel
import pytest

from ludus.core.errors import UsageError
from ludus.core.tree import TERMINAL
from ludus.envs import spiel_tree
from ludus.envs.registry import make
from ludus.envs.spiel_tree import compile_tree, load_game
from ludus.equilibria import exact
from ludus.equilibria.policies import tabulate
from ludus.equilibria.sequence_form import sequence_form
from ludus.networks.policy import IndependentPolicy, NetworkPolicy
from ludus.networks.simple import RandomPolicy, SeatedPolicy
from ludus.networks.torso import Network
from ludus.runtime.evaluate import play

GAMES = ["kuhn_poker", "leduc_poker", "kuhn_poker(players=3)", "liars_dice(dice_sides=3)", "tiny_hanabi"]


@pytest.mark.parametrize("name", GAMES)
def test_random_play_from_1000_seeds_equals_openspiel(name):
    """The same deals and actions give the same movers, observations, masks and utilities."""
    env = make(f"spiel/{name}")
    tree, game = env.tree, load_game(name)
    slots = tree.actions()

    @jax.jit
    def episode(key):
        state, shown = env.reset(key)

        def body(carry, k):
            state, shown = carry
            action = jnp.argmax(jnp.where(shown.legal["players"][0], jax.random.uniform(k, (tree.num_actions,)), -1.0))
            new, after = env.step(k, state, {"players": action[None]})
            return (new, after), (state, shown, action)

        last, records = jax.lax.scan(body, (state, shown), jax.random.split(key, env.spec.horizon))
        return last, records

    lasts, records = jax.vmap(episode)(jax.random.split(jax.random.key(0), 1000))
    nodes, shown, actions = jax.tree.map(np.asarray, records)
    final = jax.tree.map(np.asarray, lasts)
    assert final[1].terminated.all()

    def path(node):
        """The child slots that lead to a node."""
        steps = []
        while tree.parent[node] >= 0:
            steps.append(int(node - tree.first_child[tree.parent[node]]))
            node = tree.parent[node]
        return steps[::-1]

    for e in range(1000):
        state = game.new_initial_state()
        done = 0
        for slot in path(final[0][e]):
            if state.is_chance_node():
                state.apply_action([a for a, p in state.chance_outcomes() if p > 0][slot])
                continue
            mover = state.current_player()
            assert shown.seat["players"][e, done, 0] == mover
            np.testing.assert_array_equal(np.flatnonzero(shown.legal["players"][e, done, 0]), state.legal_actions())
            np.testing.assert_allclose(shown.observation["players"][e, done, 0], state.information_state_tensor(mover))
            np.testing.assert_array_equal(shown.acting["players"][e, done], np.arange(game.num_players()) == mover)
            assert actions[e, done] == slots[tree.infoset[nodes[e, done]], slot]
            state.apply_action(int(actions[e, done]))
            done += 1
        assert state.is_terminal()
        np.testing.assert_allclose(
            final[1].reward["players"][e] if done == env.spec.horizon else tree.utility[final[0][e]], state.returns()
        )


def played(env, policy):
    """Returns of 20,000 sampled episodes."""
    keys = jax.random.split(jax.random.key(1), 20_000)
    returns, _, finished = jax.jit(lambda k: play(env, {"players": policy}, k, explore=True))(keys)
    assert finished.all()
    return np.asarray(returns["players"])


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker", "kuhn_poker(players=3)"])
def test_returns_have_the_exact_mean(name):
    """Auto-reset, chance and turn order together: the mean of many random episodes is the exact value."""
    env = make(f"spiel/{name}")
    group = env.spec.groups[0]
    returns = played(env, RandomPolicy(group))
    with jax.enable_x64(True):
        game = sequence_form(env.tree)
        expected = np.asarray(exact.expected_returns(game, game.uniform()))
    error = returns.std(0) / np.sqrt(len(returns))
    assert (np.abs(returns.mean(0) - expected) < 4 * error + 1e-6).all()


def test_deals_are_as_likely_as_chance_says():
    env = make("spiel/kuhn_poker")
    nodes, _ = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 60_000))
    counts = np.unique(np.asarray(nodes), return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 0.001


@pytest.mark.parametrize("memory", ["none", "gru"])
@pytest.mark.parametrize("seated", [False, True])
def test_exact_value_of_neural_policies_is_what_they_earn(memory, seated):
    """Recurrent ones too: their memory is carried along each player's own past."""
    env = make("spiel/leduc_poker")
    group = env.spec.groups[0]
    init = lambda k: NetworkPolicy.init(
        group, Network(hidden=(32,), memory=memory, memory_size=16), key=jax.random.key(k)
    )
    sharp = lambda p: jax.tree.map(lambda x: 3 * x, p)  # far from uniform
    policy = SeatedPolicy((sharp(init(0)), sharp(init(1))), jnp.arange(2)) if seated else sharp(init(0))
    seats = list(policy.policies) if seated else policy
    returns = played(env, policy)
    game = sequence_form(env.tree, np.float32)
    expected = np.asarray(exact.expected_returns(game, tabulate(game, env.tree, seats)))
    assert np.abs(returns.mean(0) - expected).max() < 4 * returns.std() / np.sqrt(len(returns))


def test_independent_policies_are_evaluated_by_seat():
    env = make("spiel/kuhn_poker")
    group = env.spec.groups[0]
    init = lambda k: jax.tree.map(lambda x: 3 * x, NetworkPolicy.init(group, Network(hidden=(16,)), key=k))
    stack = jax.vmap(init)(jax.random.split(jax.random.key(0), 2))
    game = sequence_form(env.tree, np.float32)
    both = tabulate(game, env.tree, IndependentPolicy(stack, 2))
    apart = tabulate(game, env.tree, [jax.tree.map(lambda x, i=i: x[i], stack) for i in range(2)])
    for a, b in zip(both, apart, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_index_observations_are_one_hots():
    env = make("spiel/kuhn_poker", observe="index")
    assert env.spec.groups[0].one_hot and env.spec.groups[0].observation.shape == (12,)
    state, shown = env.reset(jax.random.key(0))
    assert shown.observation["players"][0].argmax() == env.tree.infoset[int(state)]


def test_compiled_trees_are_cached_by_content_and_damage_is_survived(tmp_path, monkeypatch):
    monkeypatch.setenv("LUDUS_CACHE", str(tmp_path))
    first = compile_tree("kuhn_poker")
    (file,) = (tmp_path / "trees").iterdir()
    monkeypatch.setattr(spiel_tree, "_enumerate", lambda *_: pytest.fail("it was compiled again"))
    second = compile_tree("kuhn_poker()")
    np.testing.assert_array_equal(first.utility, second.utility)
    assert first.infoset_names == second.infoset_names
    monkeypatch.undo()
    monkeypatch.setenv("LUDUS_CACHE", str(tmp_path))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    np.testing.assert_array_equal(compile_tree("kuhn_poker").player, first.player)
    file.write_bytes(bytes(data[:100]))
    np.testing.assert_array_equal(compile_tree("kuhn_poker").player, first.player)
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
    compile_tree("kuhn_poker(players=3)")  # a cache that cannot be written is no reason to fail


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kuhn_pokr", "did you mean 'spiel/kuhn_poker'"),
        ("liars_dice(dice_side=4)", "no parameter 'dice_side'; did you mean 'dice_sides'"),
        ("kuhn_poker(players=99)", "cannot load"),
        ("leduc_poker", "more than"),
    ],
)
def test_bad_games_get_a_sentence(name, words):
    with pytest.raises(UsageError, match=words):
        make(f"spiel/{name}", **({"max_nodes": 100} if name == "leduc_poker" else {}))


def test_trees_end_in_terminals_only():
    tree = compile_tree("tiny_hanabi")
    assert ((tree.num_children == 0) == (tree.player == TERMINAL)).all()
    assert pyspiel.load_game("tiny_hanabi").num_players() == tree.players
