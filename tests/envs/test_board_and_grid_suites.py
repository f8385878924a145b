"""Adapters of pgx, Jumanji and gymnax show what the suites show when these are stepped by hand."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pgx
import pytest
from jumanji.environments.routing.robot_warehouse.constants import _AGENTS
from jumanji.environments.routing.robot_warehouse.types import Direction, Position
from jumanji.environments.routing.robot_warehouse.utils_spawn import place_entities_on_grid

from ludus.core.errors import UsageError
from ludus.core.spaces import Discrete
from ludus.envs import registry

ENVS = 4
LAST, STAY, FORWARD, LOAD = 2, 0, 1, 5
KEY = jax.random.key(0)
FORAGING, WAREHOUSE, LIMIT = "lbf/8x8-2p-2f-coop", "rware/tiny-2ag", 30


@dataclass(frozen=True)
class Case:
    """A game, how many steps of it to compare, and the ways in which its episodes end meanwhile."""

    steps: int
    ends: tuple[str, ...] = ("terminated",)
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "pgx/tic_tac_toe": Case(40),
    "pgx/connect_four": Case(90),
    "pgx/kuhn_poker": Case(30),
    "pgx/backgammon": Case(150, ()),
    "pgx/go_9x9": Case(25, ()),
    FORAGING: Case(70, ("truncated",), {"time_limit": LIMIT}),
    WAREHOUSE: Case(70, ("truncated",), {"time_limit": LIMIT}),
    "connector/6x6-3a": Case(70, ("terminated", "truncated"), {"time_limit": 9}),
    "gym/CartPole-v1": Case(60, ("terminated", "truncated"), {"max_steps": 20}),
    "gym/Pendulum-v1": Case(40, ("truncated",), {"max_steps": 15}),
}
BOARD = [name for name in CASES if name.startswith("pgx/")]
every_case = pytest.mark.parametrize("name", CASES)
every_board_game = pytest.mark.parametrize("name", BOARD)


@functools.cache
def make(name):
    return registry.make(name, **CASES[name].options)


# The suites by hand: each takes the agents' actions [env, agent, ...] and tells what an adapter should show.


class ByHandPgx:
    def __init__(self, env):
        suite = pgx.make(env.spec.name.removeprefix("pgx/"))
        self.reset, self.players = suite.init, suite.num_players
        self.step = lambda key, state, action: suite.step(state, action[0], key)

    def expect(self, state):
        mover = np.asarray(state.current_player)
        running = ~np.asarray(state.terminated)
        return {
            "observation": state.observation[:, None],
            "legal": state.legal_action_mask[:, None],
            "acting": (mover[:, None] == np.arange(self.players)) & running[:, None],
            "reward": state.rewards,
            "terminated": ~running,
            "truncated": np.zeros(ENVS, bool),
            "seat": mover[:, None],
        }


class ByHandJumanji:
    def __init__(self, env):
        self.suite = env.suite
        self.reset = self.suite.reset
        self.step = lambda key, state, action: self.suite.step(state[0], action)

    def expect(self, state):
        state, shown = state
        over = self.over(state)
        last = np.asarray(shown.step_type == LAST)
        reward = np.asarray(shown.reward)
        return {
            "observation": self.observation(shown),
            "legal": shown.observation.action_mask,
            "acting": self.acting(state, shown),
            "reward": reward if reward.ndim == 2 else np.repeat(reward[:, None], self.suite.num_agents, 1),
            "terminated": last & over,
            "truncated": last & ~over,
        }

    def observation(self, shown):
        return shown.observation.agents_view

    def acting(self, state, shown):
        return np.ones((ENVS, self.suite.num_agents), bool)


class ByHandForaging(ByHandJumanji):
    def over(self, state):
        return np.asarray(state.food_items.eaten).all(-1)


class ByHandWarehouse(ByHandJumanji):
    def over(self, state):
        x, y = (np.asarray(i) for i in state.agents.position)
        there = np.asarray(state.grid)[np.arange(ENVS)[:, None], _AGENTS, x, y]
        return (there != 1 + np.arange(self.suite.num_agents)).any(-1)  # another robot stands there


class ByHandConnector(ByHandJumanji):
    def observation(self, shown):
        grid = np.asarray(shown.observation.grid)
        views = np.zeros((ENVS, self.suite.num_agents, *grid.shape[1:], 7), bool)
        for agent in range(self.suite.num_agents):
            views[:, agent, ..., 0] = grid == 0
            for owner in range(self.suite.num_agents):
                for kind in range(3):  # path, head, target
                    views[:, agent, ..., 1 + kind + 3 * (owner != agent)] |= grid == 1 + 3 * owner + kind
        return views

    def acting(self, state, shown):
        can_move = np.asarray(shown.observation.action_mask)[..., 1:].any(-1)
        return ~np.asarray(state.agents.connected) & can_move

    def over(self, state):
        return ~np.asarray(state.action_mask)[..., 1:].any((-1, -2))


class ByHandGym:
    def __init__(self, env):
        suite, params = gymnax.make(env.spec.name.removeprefix("gym/"))
        params = params.replace(max_steps_in_episode=env.spec.horizon)

        def reset(key):
            observation, state = suite.reset_env(key, params)
            return state, observation, jnp.zeros(()), jnp.zeros((), bool), jnp.zeros((), bool)

        def step(key, state, action):
            observation, state, reward, terminated, _ = suite.step_env(key, state[0], action[0], params)
            return state, observation, reward, terminated, suite.is_truncated(state, params)

        self.reset, self.step = reset, step

    def expect(self, state):
        observation, reward, terminated, truncated = map(np.asarray, state[1:])
        return {
            "observation": observation[:, None],
            "acting": np.ones((ENVS, 1), bool),
            "reward": reward[:, None],
            "terminated": terminated,
            "truncated": truncated & ~terminated,
        }


BY_HAND = {
    "pgx": ByHandPgx,
    "lbf": ByHandForaging,
    "rware": ByHandWarehouse,
    "connector": ByHandConnector,
    "gym": ByHandGym,
}


def draw(rng, group, legal):
    """Random legal actions [env, slot]; continuous ones also beyond their bounds."""
    if isinstance(group.action, Discrete):
        chances = rng.random((ENVS, group.slots, group.action.n))
        return (chances if legal is None else chances * legal).argmax(-1).astype(np.int32)
    return rng.uniform(1.5 * group.action.low, 1.5 * group.action.high, (ENVS, group.slots, *group.action.shape))


def shown_by(step, group):
    """An adapter's time step as the dictionary that `expect` gives."""
    parts = {
        part: value[group.name]
        for part in ("observation", "legal", "acting", "reward", "seat")
        if group.name in (value := getattr(step, part))
    }
    return {**parts, "terminated": step.terminated, "truncated": step.truncated}


def compiled(function, name=""):
    """For a batch of environments, and with little optimisation, for compiling is most of the time here.

    Steps of real-valued games are not compiled: rounding would depend on what is around them.
    """
    options = {"xla_backend_optimization_level": 0}
    batch = jax.vmap(function)
    return batch if name.startswith("gym/") else jax.jit(batch, compiler_options=options)


@functools.cache
def batched(name):
    """An adapter's reset and step for a batch; its state comes with what it showed."""
    env = make(name)
    (group,) = env.spec.groups
    return compiled(env.reset), compiled(lambda key, state, action: env.step(key, state[0], {group.name: action}), name)


def step_all(name, states, actions):
    """What a batch of single states shows after one step."""
    states = jax.tree.map(lambda *x: jnp.stack(x), *states)
    _, shown = batched(name)[1](jax.random.split(KEY, ENVS), (states, None), jnp.asarray(actions))
    return shown


def fresh_state(name):
    """A state to change by hand."""
    states, _ = batched(name)[0](jax.random.split(KEY, ENVS))
    return jax.tree.map(lambda x: x[0], states)


def ends(shown):
    """How each game of a batch ended, if it did."""
    causes = zip(shown.terminated, shown.truncated, strict=True)
    return ["terminated" if t else "truncated" if u else None for t, u in causes]


def renew(done, new, old):
    """The new state where a game is done, the old one elsewhere."""
    choose = jax.vmap(lambda d, a, b: jax.tree.map(functools.partial(jnp.where, d), a, b))
    return choose(jnp.asarray(done), new, old)


@functools.cache
def play(name):
    """The same games twice: what the adapter shows and what the suite does, each [time, env, ...].

    Both take the same keys and random legal actions; finished games begin anew in both.
    """
    env = make(name)
    (group,) = env.spec.groups
    hand = BY_HAND[name.partition("/")[0]](env)
    sides = [batched(name), (compiled(hand.reset), compiled(hand.step, name))]
    views = (lambda s: shown_by(s[1], group), hand.expect)
    rng = np.random.default_rng(0)
    key, first = jax.random.split(KEY)
    states = [reset(jax.random.split(first, ENVS)) for reset, _ in sides]
    history: tuple[list, list] = ([], [])
    for _ in range(CASES[name].steps):
        seen = [jax.tree.map(np.asarray, view(state)) for view, state in zip(views, states, strict=True)]
        for side, view in zip(history, seen, strict=True):
            side.append(view)
        key, again, onward = jax.random.split(key, 3)
        done = seen[1]["terminated"] | seen[1]["truncated"]
        actions = draw(rng, group, seen[1].get("legal"))
        keys = jax.random.split(onward, ENVS)
        states = [step(keys, state, actions) for (_, step), state in zip(sides, states, strict=True)]
        if done.any():
            fresh = [reset(jax.random.split(again, ENVS)) for reset, _ in sides]
            states = [renew(done, new, old) for new, old in zip(fresh, states, strict=True)]
    return tuple(jax.tree.map(lambda *x: np.stack(x), *side) for side in history)


def lengths(view):
    """The lengths of all finished episodes."""
    found = []
    for done in (view["terminated"] | view["truncated"]).T:
        ends = np.flatnonzero(done)
        found += list(np.diff(ends, prepend=-1) - 1)  # a reset stands between two episodes
    return found


@every_case
def test_the_adapter_shows_exactly_what_the_suite_does(name):
    ours, theirs = play(name)
    assert ours.keys() == theirs.keys()
    for part in theirs:
        np.testing.assert_array_equal(ours[part], theirs[part], err_msg=f"{name}: {part}")
        assert part == "reward" or ours[part].dtype == theirs[part].dtype


@every_case
def test_the_comparison_saw_the_ends_it_should(name):
    _, theirs = play(name)
    assert {end for end in ("terminated", "truncated") if theirs[end].any()} >= set(CASES[name].ends)


@every_case
def test_the_specification_describes_the_arrays(name):
    ours, _ = play(name)
    (group,) = make(name).spec.groups
    lead = (CASES[name].steps, ENVS)
    assert ours["observation"].shape == (*lead, group.slots, *group.observation.shape)
    assert ours["observation"].min() >= group.observation.low
    assert ours["observation"].max() <= group.observation.high
    assert ours["acting"].shape == ours["reward"].shape == (*lead, group.size)
    assert ours["reward"].dtype == np.float32
    assert ("legal" in ours) == group.masked
    if group.masked:
        assert ours["legal"].shape == (*lead, group.slots, group.action.n)
        assert ours["legal"].any(-1).all(), "there is always something to do"
    assert ("seat" in ours) == (group.slots < group.size)


@every_case
def test_a_reset_and_a_step_show_the_same_shapes_and_types(name):
    env = make(name)
    (group,) = env.spec.groups
    actions = {group.name: draw(np.random.default_rng(0), group, None)[0]}
    state, first = jax.eval_shape(env.reset, KEY)
    _, second = jax.eval_shape(env.step, KEY, state, actions)

    def types(step):
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), step)

    assert types(first) == types(second)


@every_case
def test_no_episode_is_longer_than_the_horizon(name):
    ours, _ = play(name)
    spec = make(name).spec
    if spec.horizon is not None and CASES[name].ends:
        longest = max(lengths(ours))
        assert longest <= spec.horizon
        if "truncated" in CASES[name].ends or name in ("pgx/tic_tac_toe", "pgx/kuhn_poker"):
            assert longest == spec.horizon
    assert spec.truncates or not ours["truncated"].any()


@every_case
def test_an_episode_ends_by_one_cause(name):
    ours, _ = play(name)
    assert not (ours["terminated"] & ours["truncated"]).any()


@every_board_game
def test_exactly_one_player_acts_until_the_end_and_then_nobody(name):
    ours, _ = play(name)
    assert make(name).spec.turns == "sequential"
    np.testing.assert_array_equal(ours["acting"].sum(-1), 1 - ours["terminated"])
    running = ~ours["terminated"]
    mover = ours["acting"].argmax(-1)
    np.testing.assert_array_equal(ours["seat"][..., 0][running], mover[running])


@every_board_game
def test_board_games_are_zero_sum_and_either_seat_may_begin(name):
    ours, _ = play(name)
    assert make(name).spec.reward == "zero-sum"
    assert (ours["reward"].sum(-1) == 0).all()
    assert (ours["reward"][~ours["terminated"]] == 0).all(), "paid at the end"
    begins = ours["seat"][0, :, 0]
    after_end = ours["terminated"][:-1]
    begins = np.concatenate([begins, ours["seat"][1:, :, 0][after_end]])
    assert set(begins) == {0, 1}


@every_board_game
def test_the_two_seats_are_rivals_that_one_policy_may_take(name):
    spec = make(name).spec
    assert spec.symmetric
    assert spec.teams == ("player_0", "player_1")


def test_an_illegal_move_loses_at_once():
    env = make("pgx/tic_tac_toe")
    state, shown = env.reset(KEY)
    move = {"players": jnp.asarray([4])}
    state, shown = env.step(KEY, state, move)
    loser = int(shown.seat["players"][0])
    _, shown = env.step(KEY, state, move)
    assert shown.terminated
    assert shown.reward["players"][loser] == -1 and shown.reward["players"].sum() == 0


def test_sparrow_mahjong_has_three_players():
    spec = registry.make("pgx/sparrow_mahjong").spec
    assert spec.groups[0].size == 3 and spec.teams == ("player_0", "player_1", "player_2")


def test_board_games_are_drawn_as_svg(tmp_path):
    env = make("pgx/tic_tac_toe")
    state, _ = env.reset(KEY)
    after, _ = env.step(KEY, state, {"players": jnp.asarray([4])})
    env.render([state, after], str(tmp_path / "game.svg"))
    assert "<svg" in (tmp_path / "game.svg").read_text()
    with pytest.raises(UsageError, match="svg"):
        env.render([state, after], str(tmp_path / "game.gif"))


def around_the_last_food(step_count):
    """A foraging state with one food left and both foragers beside it."""
    state = fresh_state(FORAGING)
    food = state.food_items
    place = food.position[0]
    agents = state.agents.replace(position=jnp.stack([place + jnp.array([0, 1]), place - jnp.array([0, 1])]))
    return state.replace(
        agents=agents,
        food_items=food.replace(eaten=jnp.asarray([False, True])),
        step_count=jnp.asarray(step_count, jnp.int32),
    )


def test_foraging_terminates_when_all_is_eaten_and_truncates_at_its_time_limit():
    assert make(FORAGING).spec.horizon == LIMIT
    states = [around_the_last_food(step_count) for step_count in (0, 0, LIMIT - 1, LIMIT - 1)]
    shown = step_all(FORAGING, states, [[STAY, STAY], [LOAD, LOAD], [STAY, STAY], [LOAD, LOAD]])
    assert ends(shown) == [None, "terminated", "truncated", "terminated"]


def test_foragers_that_eat_together_share_by_their_levels():
    state = around_the_last_food(0)
    shown = step_all(FORAGING, [state] * ENVS, [[STAY, STAY], [LOAD, STAY], [STAY, LOAD], [LOAD, LOAD]])
    levels = np.asarray(state.agents.level)
    worth = state.food_items.level[0] / state.food_items.level.sum()
    reward = shown.reward["foragers"]
    assert (reward[:3] == 0).all(), "one alone cannot lift it"
    np.testing.assert_allclose(reward[3], worth * levels / levels.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", ["2s-8x8-2p-2f-coop", "8x8-2p-2f-coop"])
def test_the_name_of_a_foraging_task_says_how_far_agents_see(name):
    env = registry.make(f"lbf/{name}")
    assert env.suite.fov == (2 if name.startswith("2s") else 8)
    assert registry.make(f"lbf/{name}", sight=3).suite.fov == 3


def test_an_impossible_sight_is_refused():
    with pytest.raises(UsageError, match="between 1 and 8"):
        registry.make("lbf/8x8-2p-2f", sight=9)


def face_to_face(step_count):
    """A warehouse state with two robots that face each other."""
    state = fresh_state(WAREHOUSE)
    agents = state.agents._replace(
        position=Position(x=jnp.asarray([0, 0]), y=jnp.asarray([3, 4])),
        direction=jnp.asarray([Direction.RIGHT, Direction.LEFT]),
    )
    grid = place_entities_on_grid(jnp.zeros_like(state.grid), agents, state.shelves)
    return state.replace(agents=agents, grid=grid, step_count=jnp.asarray(step_count, jnp.int32))


def test_robots_terminate_by_a_collision_and_truncate_at_the_time_limit():
    assert make(WAREHOUSE).spec.horizon == LIMIT
    states = [face_to_face(step_count) for step_count in (0, 0, LIMIT - 1, LIMIT - 1)]
    shown = step_all(WAREHOUSE, states, [[STAY, STAY], [FORWARD, STAY], [STAY, STAY], [FORWARD, STAY]])
    assert ends(shown) == [None, "terminated", "truncated", "terminated"]


@pytest.mark.parametrize(("kind", "requests"), [("", 4), ("-easy", 8), ("-hard", 2)])
def test_the_name_of_a_warehouse_says_how_many_shelves_are_requested(kind, requests):
    assert registry.make(f"rware/tiny-4ag{kind}").suite.request_queue_size == requests


def test_robots_share_their_reward():
    spec = make("rware/tiny-2ag").spec
    assert spec.reward == "common" and spec.teams == ("team",)


def test_every_connector_sees_the_same_board_from_its_own_side():
    ours, _ = play("connector/6x6-3a")
    views = ours["observation"]
    assert (views.sum(-1) == 1).all(), "every cell is of one kind"
    filled = views.sum((-2, -3))
    np.testing.assert_array_equal(filled[..., 2], np.ones_like(filled[..., 2]))
    np.testing.assert_array_equal(filled[..., 5], np.full_like(filled[..., 5], 2))
    np.testing.assert_array_equal(views[..., 0], np.repeat(views[:, :, :1, ..., 0], 3, axis=2))


def test_a_connector_that_is_done_no_longer_acts_though_others_do():
    ours, _ = play("connector/6x6-3a")
    running = ~(ours["terminated"] | ours["truncated"])
    assert ours["acting"][running].any(-1).all()
    assert not ours["acting"][running].all()
    assert not ours["acting"][ours["terminated"]].any()


def roll(env, actions):
    """Play these actions in a single-agent task until it ends; what it showed."""
    state, shown = env.reset(KEY)
    steps = [shown]
    for action in actions:
        state, shown = env.step(KEY, state, {"agent": jnp.asarray([action])})
        steps.append(shown)
        if shown.done:
            break
    return steps


def test_a_fallen_pole_is_a_termination_and_its_last_observation_is_shown():
    steps = roll(registry.make("gym/CartPole-v1"), [1] * 50)
    assert steps[-1].terminated and not steps[-1].truncated
    angles = np.abs([step.observation["agent"][0, 2] for step in steps])
    limit = np.deg2rad(12)
    assert angles[-1] > limit and (angles[:-1] <= limit).all()
    assert all(step.reward["agent"] == 1 for step in steps[1:])


@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1"])
def test_a_time_limit_is_a_truncation_and_the_last_observation_is_shown(task):
    limit = 5
    env = registry.make(f"gym/{task}", max_steps=limit)
    action = [0.5] if task.startswith("Pendulum") else 0
    steps = roll(env, [action] * 20)
    assert len(steps) == limit + 1
    assert steps[-1].truncated and not steps[-1].terminated
    assert env.spec.horizon == limit and env.spec.truncates
    longer = roll(registry.make(f"gym/{task}"), [action] * limit)
    np.testing.assert_array_equal(steps[-1].observation["agent"], longer[-1].observation["agent"])


def test_a_pole_that_falls_in_the_last_step_is_a_termination():
    free = roll(registry.make("gym/CartPole-v1"), [1] * 50)
    steps = roll(registry.make("gym/CartPole-v1", max_steps=len(free) - 1), [1] * 50)
    assert len(steps) == len(free)
    assert steps[-1].terminated and not steps[-1].truncated
