"""Trees, exact evaluation and CFR against OpenSpiel, to 1e-10."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pyspiel
import pytest
from open_spiel.python import policy as spiel_policy
from open_spiel.python.algorithms import expected_game_score, fictitious_play
from open_spiel.python.algorithms import exploitability as spiel_exploitability

from ludus.core.tree import CHANCE, TERMINAL
from ludus.envs.spiel_tree import compile_tree, load_game
from ludus.equilibria import exact
from ludus.equilibria.cfr import CFR, CFRBR
from ludus.equilibria.fictitious_play import XFP
from ludus.equilibria.policies import from_actions, to_actions
from ludus.equilibria.sequence_form import sequence_form

GAMES = [
    "kuhn_poker",
    "leduc_poker",
    "kuhn_poker(players=3)",
    "liars_dice(dice_sides=3)",
    "goofspiel(num_cards=3,points_order=descending,imp_info=True)",
    "matrix_shapleys_game",
]


@pytest.mark.parametrize("name", GAMES)
def test_every_node_is_openspiels(name):
    tree = compile_tree(name, cache=False)
    tree.check()
    game = load_game(name)
    pairs, slot = {0: game.new_initial_state()}, tree.actions()
    for node in range(tree.num_nodes):
        state = pairs.pop(node)
        if state.is_terminal():
            assert tree.player[node] == TERMINAL
            np.testing.assert_allclose(tree.utility[node], state.returns())
            continue
        children = range(tree.first_child[node], tree.first_child[node] + tree.num_children[node])
        if state.is_chance_node():
            assert tree.player[node] == CHANCE
            outcomes = [(a, p) for a, p in state.chance_outcomes() if p > 0]
            np.testing.assert_allclose([tree.chance[c] for c in children], [p for _, p in outcomes])
            actions = [a for a, _ in outcomes]
        else:
            mover = state.current_player()
            infoset = tree.infoset[node]
            assert tree.player[node] == mover == tree.infoset_player[infoset]
            actions = state.legal_actions()
            np.testing.assert_array_equal(np.flatnonzero(tree.legal[infoset]), actions)
            np.testing.assert_array_equal([a for a in slot[infoset] if a >= 0], actions)
            assert tree.infoset_names[infoset] == state.information_state_string(mover)
            np.testing.assert_allclose(tree.observation[infoset], state.information_state_tensor(mover))
        assert len(children) == len(actions)
        for child, action in zip(children, actions, strict=True):
            assert tree.parent[child] == node
            pairs[child] = state.child(action)
    assert not pairs


def random_strategies(tree, game, seed):
    """The same random policy for both libraries."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(tree.num_actions, 0.5), size=tree.num_infosets) * tree.legal + 1e-9 * tree.legal
    table /= table.sum(1, keepdims=True)
    theirs = spiel_policy.TabularPolicy(game)
    for name, row in zip(tree.infoset_names, table, strict=True):
        theirs.action_probability_array[theirs.state_lookup[name]] = row
    return table, theirs


@pytest.mark.parametrize("name", [g for g in GAMES if "matrix" not in g])
def test_nash_conv_and_best_responses_of_random_policies(name):
    """Twenty each on five games, three-player Kuhn among them."""
    tree, spiel = compile_tree(name), load_game(name)
    game = sequence_form(tree)
    evaluate = jax.jit(lambda s: (exact.nash_conv(game, s), exact.expected_returns(game, s)))
    for seed in range(20):
        table, theirs = random_strategies(tree, spiel, seed)
        gap, value = evaluate(from_actions(tree, game, table))
        found = spiel_exploitability.nash_conv(spiel, theirs, return_only_nash_conv=False)
        np.testing.assert_allclose(gap, found.nash_conv, atol=1e-10)
        expected = expected_game_score.policy_value(spiel.new_initial_state(), [theirs] * spiel.num_players())
        np.testing.assert_allclose(value, expected, atol=1e-10)
        for i, improvement in enumerate(found.player_improvements):
            best, _ = exact.best_response(game, from_actions(tree, game, table), i)
            np.testing.assert_allclose(best - value[i], improvement, atol=1e-10)


def test_uniform_nash_conv():
    for name, expected in (("kuhn_poker", 11 / 12), ("leduc_poker", 4.747222222222222)):
        game = sequence_form(compile_tree(name))
        np.testing.assert_allclose(exact.nash_conv(game, game.uniform()), expected, atol=1e-12)
        np.testing.assert_allclose(exact.exploitability(game, game.uniform()), expected / 2, atol=1e-12)


def test_single_precision_is_right_to_1e_5():
    game = sequence_form(compile_tree("leduc_poker"), np.float32)
    np.testing.assert_allclose(exact.nash_conv(game, game.uniform()), 4.747222222, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kuhn_poker", [0.916667, 0.333333, 0.319444, 0.260417, 0.226667]),
        ("leduc_poker", [4.747222, 4.006867, 3.409049, 2.898254, 2.536719]),
    ],
)
def test_cfr_br_follows_the_published_nash_convs(name, expected):
    game = sequence_form(compile_tree(name))
    solver, found = CFRBR(), []
    state, step = solver.init(game), jax.jit(CFRBR().step)
    for _ in expected:
        state = step(game, state)
        found.append(float(exact.nash_conv(game, solver.average(game, state))))
    np.testing.assert_allclose(found, expected, atol=6e-7)


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker", "kuhn_poker(players=3)"])
@pytest.mark.parametrize("plus", [False, True])
def test_100_iterations_of_cfr_equal_openspiels_average_policies(name, plus):
    tree, spiel = compile_tree(name), load_game(name)
    game = sequence_form(tree)
    solver = CFR(plus=plus, linear=plus)
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 100, lambda _, x: solver.step(game, x), s))(solver.init(game))
    theirs = (pyspiel.CFRPlusSolver if plus else pyspiel.CFRSolver)(spiel)
    for _ in range(100):
        theirs.evaluate_and_update_policy()
    average = theirs.average_policy()
    ours = to_actions(tree, game, solver.average(game, state))
    states = {}

    def visit(node):
        if node.is_terminal():
            return
        if not node.is_chance_node():
            states.setdefault(node.information_state_string(), node)
        for action in node.legal_actions():
            visit(node.child(action))

    visit(spiel.new_initial_state())
    for k, infoset in enumerate(tree.infoset_names):
        row = np.zeros(tree.num_actions)
        for action, p in average.action_probabilities(states[infoset]).items():
            row[action] = p
        np.testing.assert_allclose(ours[k], row, atol=1e-10, err_msg=infoset)


def test_fictitious_play_begins_as_openspiels_and_reaches_the_value():
    game, solver = sequence_form(compile_tree("kuhn_poker")), XFP()
    theirs = fictitious_play.XFPSolver(pyspiel.load_game("kuhn_poker"))
    state, step, ours, found = solver.init(game), jax.jit(solver.step), [], []
    for k in range(1000):
        state = step(game, state)
        if k < 2:  # later, equal responses break ties by rounding
            theirs.iteration()
            found.append(spiel_exploitability.nash_conv(theirs._game, theirs.average_policy()))
            ours.append(float(exact.nash_conv(game, solver.average(game, state))))
    np.testing.assert_allclose(ours, found, atol=1e-10)
    np.testing.assert_allclose(exact.expected_returns(game, solver.average(game, state))[0], -1 / 18, atol=1e-3)
    assert exact.nash_conv(game, solver.average(game, state)) < 0.015


def test_one_call_evaluates_many_policies():
    game = sequence_form(compile_tree("kuhn_poker"))
    rng = np.random.default_rng(0)
    tables = tuple(jnp.asarray(rng.dirichlet(np.ones(2), size=(64, s.shape[0]))) for s in game.sides)
    together = jax.jit(jax.vmap(lambda s: exact.nash_conv(game, s)))(tables)
    behind = tuple(jnp.moveaxis(t, 0, -1) for t in tables)
    np.testing.assert_allclose(jax.jit(exact.nash_conv)(game, behind), together, atol=1e-12)
    np.testing.assert_allclose(exact.expected_returns(game, behind).sum(0), 0, atol=1e-12)
    apart = [exact.nash_conv(game, tuple(t[k] for t in tables)) for k in range(64)]
    np.testing.assert_allclose(together, np.asarray(apart), atol=1e-12)
