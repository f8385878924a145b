"""The adapters of JaxMARL's suites show exactly what the suites show, and tell why an episode ended."""

from __future__ import annotations

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxmarl.environments.smax import map_name_to_scenario
from stepping import Case, Moment, play, player, random_actions, side_by_side, suite

from ludus.core.errors import UsageError
from ludus.core.game import Environment
from ludus.core.spaces import Discrete
from ludus.envs import coin_game, hanabi, overcooked, smax, storm, switch_riddle
from ludus.envs.registry import make, names

ALLIES, ENEMIES = ("ally_0", "ally_1", "ally_2"), ("enemy_0", "enemy_1", "enemy_2")
AGENTS = ("agent_0", "agent_1", "agent_2")


def _storm_view(observation):
    return {i: np.concatenate([v["observation"].ravel(), v["inventory"]]) for i, v in enumerate(observation)}


def _overcooked():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return suite("overcooked", max_steps=60)()


CASES = {
    case.name: case
    for case in (
        Case("mpe/simple_spread", suite("MPE_simple_spread_v3"), {"agents": AGENTS}),
        Case(
            "mpe/simple_tag",
            suite("MPE_simple_tag_v3"),
            {"predators": ("adversary_0", "adversary_1", "adversary_2"), "prey": ("agent_0",)},
        ),
        Case(
            "mpe/simple_speaker_listener",
            suite("MPE_simple_speaker_listener_v4"),
            {"speaker": ("speaker_0",), "listener": ("listener_0",)},
        ),
        Case(
            "smax/3m",
            suite("HeuristicEnemySMAX", scenario=map_name_to_scenario("3m")),
            {"allies": ALLIES},
            steps=110,
            masked=True,
        ),
        Case(
            "smax/3m-versus",
            suite("SMAX", scenario=map_name_to_scenario("3m"), max_steps=40),
            {"allies": ALLIES, "enemies": ENEMIES},
            options={"max_steps": 40},
            steps=90,
            masked=True,
        ),
        Case(
            "overcooked/cramped_room",
            _overcooked,
            {"cooks": AGENTS[:2]},
            options={"max_steps": 60, "shaped": 0.5},
            steps=130,
            shaped=0.5,
        ),
        Case(
            "hanabi",
            suite("hanabi", num_agents=3, shuffle_player_order=True),
            {"players": AGENTS},
            options={"num_agents": 3, "shuffle_player_order": True},
            steps=100,
            masked=True,
        ),
        Case("switch_riddle", suite("switch_riddle"), {"prisoners": AGENTS}),
        Case(
            "coin_game",
            suite("coin_game", num_inner_steps=8, num_outer_steps=3),
            {"players": ("0", "1")},
            options={"num_inner_steps": 8, "num_outer_steps": 3},
        ),
        Case(
            "storm",
            suite("storm_2p", num_inner_steps=40, num_outer_steps=2),
            {"players": (0, 1)},
            options={"num_inner_steps": 40, "num_outer_steps": 2},
            steps=170,
            view=_storm_view,
            tupled=True,
            seed=2,  # with which an interaction happens
        ),
    )
}
every_game = pytest.mark.parametrize("name", CASES)


@functools.cache
def played(name: str) -> list[Moment]:
    """The game beside its suite, once for all tests."""
    return side_by_side(CASES[name])


def game(name: str):
    """The compiled game of a case."""
    return player(name, **CASES[name].options)


def ends(name: str) -> list[Moment]:
    """The last moments of its episodes."""
    found = [moment for moment in played(name) if moment.seen.done]
    assert len(found) >= 2, f"only {len(found)} episodes ended"
    return found


@every_game
def test_observations_are_exactly_the_suites(name):
    for moment in played(name):
        shown, seen = moment.shown, moment.seen
        for group, rows in seen.observation.items():
            expected = rows if seen.mover is None else rows[seen.mover : seen.mover + 1]
            np.testing.assert_array_equal(shown.observation[group], expected)
        if seen.state is not None:
            expected = seen.state
            if name.startswith("smax"):  # positions are shares of the map of 32 by 32 cells, exactly a power of two
                units = len(expected) // 12
                expected = np.array(expected)
                expected[: units * 10].reshape(units, 10)[:, 1:3] /= 32
            np.testing.assert_array_equal(shown.state, expected)


@every_game
def test_rewards_are_exactly_the_suites(name):
    paid = 0
    for moment in played(name):
        for group in game(name).env.spec.groups:
            reward = moment.shown.reward[group.name]
            assert reward.dtype == jnp.float32 and reward.shape == (group.size,)
            expected = np.zeros(group.size) if moment.seen.reward is None else moment.seen.reward[group.name]
            np.testing.assert_array_equal(reward, expected)
            paid += np.count_nonzero(expected)
    assert paid, "nothing was ever paid: the comparison shows nothing"


@every_game
def test_masks_are_exactly_the_suites(name):
    masked = {group.name for group in game(name).env.spec.groups if group.masked}
    for moment in played(name):
        seen = moment.seen
        assert set(moment.shown.legal) == masked
        for group in masked:
            expected = seen.legal[group] if seen.mover is None else seen.legal[group][[seen.mover]]
            assert moment.shown.legal[group].dtype == bool
            np.testing.assert_array_equal(moment.shown.legal[group], expected)


@every_game
def test_episodes_end_when_the_suite_ends_them_and_by_one_cause(name):
    for moment in played(name):
        assert bool(moment.shown.done) == moment.seen.done
        assert not (moment.shown.terminated and moment.shown.truncated)
    spec = game(name).env.spec
    assert spec.horizon is not None
    for moment in ends(name):
        assert moment.time <= spec.horizon
        assert spec.truncates or not moment.shown.truncated


@every_game
def test_the_spec_describes_the_arrays(name):
    env = game(name).env
    assert isinstance(env, Environment)
    for moment in played(name):
        shown = moment.shown
        assert (shown.state is None) == (env.spec.state is None)
        if env.spec.state is not None:
            assert shown.state.shape == env.spec.state.shape
        for group in env.spec.groups:
            assert isinstance(group.action, Discrete)
            view = np.asarray(shown.observation[group.name])
            assert view.shape == (group.slots, *group.observation.shape)
            assert view.min() >= group.observation.low and view.max() <= group.observation.high
            assert shown.acting[group.name].shape == (group.size,)
            if group.masked:
                assert shown.legal[group.name].shape == (group.slots, group.action.n)
                assert np.asarray(shown.legal[group.name]).any(-1).all()
            assert (group.slots < group.size) == (group.name in shown.seat)


@every_game
def test_steps_look_like_resets_and_both_may_be_batched(name):
    env = game(name).env
    keys = jax.random.split(jax.random.key(0), 2)

    def opening(key):
        return env.reset(key)

    def later(key):
        state, _ = env.reset(key)
        actions = {g.name: jnp.zeros(g.slots, jnp.int32) for g in env.spec.groups}
        return env.step(key, state, actions)

    first, second = (jax.eval_shape(jax.vmap(f), keys) for f in (opening, later))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    if name.startswith("mpe/"):  # its step marks the end with a weakly typed truth value
        first, second = ([(x.shape, x.dtype) for x in jax.tree.leaves(tree)] for tree in (first, second))
    assert jax.tree.leaves(first) == jax.tree.leaves(second)


def _never(shown):
    """Do nothing, whatever the game calls it."""
    return {group: [4] * len(rows) for group, rows in shown.observation.items()}


def _quiet(shown):
    return {"prisoners": [1, 1, 1]}


def _stall(shown):
    """Give a hint if there is one to give; else discard, else play."""
    hand = 5
    (mask,) = np.asarray(shown.legal["players"])
    hints = 2 * hand + np.flatnonzero(mask[2 * hand :])
    return {"players": [hints[0] if hints.size else np.flatnonzero(mask)[0]]}


@pytest.mark.parametrize(
    ("name", "choose"),
    [
        ("mpe/simple_spread", _never),
        ("mpe/simple_tag", _never),
        ("mpe/simple_speaker_listener", lambda shown: {"speaker": [0], "listener": [0]}),
        ("smax/3m-versus", _never),
        ("overcooked/cramped_room", _never),
        ("hanabi", _stall),
        ("switch_riddle", _quiet),
        ("coin_game", _never),
        ("storm", _never),
    ],
)
def test_the_horizon_is_the_length_of_the_longest_episode(name, choose):
    moments = play(game(name), choose)
    assert len(moments) - 1 == game(name).env.spec.horizon
    assert bool(moments[-1].truncated) == (name != "hanabi")
    assert bool(moments[-1].terminated) == (name == "hanabi")


@pytest.mark.parametrize(
    "name", [n for n in CASES if n.startswith(("mpe/", "overcooked/")) or n in ("coin_game", "storm")]
)
def test_games_without_a_last_state_are_only_truncated(name):
    assert all(m.shown.truncated and not m.shown.terminated for m in ends(name))


def _assault(shown):
    """Allies walk east and shoot the first enemy in range; enemies stand still."""
    masks = np.asarray(shown.legal["allies"])
    attacks = [5 + np.flatnonzero(mask[5:]) for mask in masks]
    allies = [a[0] if a.size else (1 if mask[1] else 4) for a, mask in zip(attacks, masks, strict=True)]
    return {"allies": allies, "enemies": [4, 4, 4]}


def test_smax_time_limit_is_a_truncation():
    last = play(player("smax/3m", max_steps=3), _never)[-1]
    assert last.truncated and not last.terminated
    assert last.acting["allies"].all()


def test_smax_defeat_is_terminal():
    for moment in ends("smax/3m"):
        assert moment.shown.terminated and not moment.shown.truncated
        assert not moment.shown.acting["allies"].any()


def test_smax_victory_is_terminal():
    last = play(game("smax/3m-versus"), _assault)[-1]
    assert last.terminated and not last.truncated
    assert last.acting["allies"].any() and not last.acting["enemies"].any()
    assert (last.reward["allies"] >= 1).all()


def test_smax_victory_on_the_last_step_is_terminal():
    versus = game("smax/3m-versus")
    key = jax.random.key(0)
    state, shown = versus.reset(key)
    while not shown.done:
        late = state.replace(step=jnp.full_like(state.step, 40))
        actions = {name: jnp.asarray(rows, jnp.int32) for name, rows in _assault(shown).items()}
        _, at_the_limit = versus.step(key, late, actions)
        state, shown = versus.step(key, state, actions)
        assert at_the_limit.done
        assert bool(at_the_limit.terminated) == bool(shown.terminated)
        assert bool(at_the_limit.truncated) != bool(shown.terminated)
    assert shown.terminated


@pytest.mark.parametrize("name", ["smax/3m", "smax/3m-versus"])
def test_smax_dead_units_do_not_act_and_are_paid(name):
    fallen = 0
    for moment in played(name):
        for group, dead in moment.dead.items():
            np.testing.assert_array_equal(moment.shown.acting[group], ~dead)
            assert len(set(np.asarray(moment.shown.reward[group]).tolist())) == 1
            masks = np.asarray(moment.shown.legal[group])[dead]
            assert (masks.sum(-1) == 1).all() and masks[:, 4].all()
            fallen += dead.any() and not dead.all()
    assert fallen


def test_smax_self_play_reward_is_zero_sum():
    versus = player("smax/3m-versus", self_play_reward=True)
    assert versus.env.spec.reward == "zero-sum"
    assert versus.env.spec.teams == ("allies", "enemies")
    moments = play(versus, _assault)
    assert all(m.reward["allies"][0] + m.reward["enemies"][0] == 0 for m in moments)
    assert moments[-1].reward["allies"].tolist() == [1, 1, 1]


def test_smax_sides_of_unequal_size_have_their_own_actions():
    spec = make("smax/5m_vs_6m-versus").spec
    assert [(g.name, g.size, g.action) for g in spec.groups] == [
        ("allies", 5, Discrete(11)),
        ("enemies", 6, Discrete(10)),
    ]
    assert spec.reward == "general-sum" and not spec.symmetric


def test_smax_options_of_the_scripted_enemy_are_refused_without_one():
    with pytest.raises(UsageError, match="no scripted enemy"):
        make("smax/3m-versus", attack_mode="random")
    with pytest.raises(UsageError, match="did you mean 'closest'"):
        make("smax/3m", attack_mode="closet")


def test_overcooked_pays_both_cooks_alike_unless_shaped():
    plain, shaped = make("overcooked/cramped_room"), make("overcooked/cramped_room", shaped=0.5)
    assert (plain.spec.reward, shaped.spec.reward) == ("common", "general-sum")
    assert plain.spec.horizon == 400
    rewards = [np.asarray(m.shown.reward["cooks"]) for m in played("overcooked/cramped_room")]
    assert any(a != b for a, b in rewards)


def test_overcooked_is_made_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("overcooked/cramped_room")


def test_overcooked_views_are_height_by_width():
    for layout, shape in {"cramped_room": (4, 5, 26), "asymm_advantages": (5, 9, 26)}.items():
        env = make(f"overcooked/{layout}")
        assert env.spec.groups[0].observation.shape == shape
        _, shown = jax.eval_shape(env.reset, jax.random.key(0))
        assert shown.observation["cooks"].shape == (2, *shape)


def test_hanabi_shows_one_mover_and_its_own_row():
    movers = []
    for moment in played("hanabi"):
        acting = np.asarray(moment.shown.acting["players"])
        if moment.seen.done:
            assert not acting.any()
            continue
        assert np.flatnonzero(acting).tolist() == moment.shown.seat["players"].tolist() == [moment.seen.mover]
        assert moment.shown.seat["players"].dtype == jnp.int32
        movers.append(moment.seen.mover)
    assert set(movers) == {0, 1, 2}


def test_hanabi_state_holds_all_hands_the_movers_first():
    """Oracle: the suite's hands; and the mover's own observation, which begins with the others' cards."""
    for moment in played("hanabi"):
        if moment.seen.done:
            continue
        hands = np.asarray(moment.shown.state).reshape(3, -1)
        seen = np.asarray(moment.shown.observation["players"][0])[: hands[1:].size]
        np.testing.assert_array_equal(seen, hands[1:].reshape(-1))
        assert hands[0].sum() == hands[1].sum() or hands.sum() < 15, "everybody holds as many cards until the deck ends"


def test_hanabi_seats_are_shuffled_when_asked():
    openers = {int(game("hanabi").reset(jax.random.key(seed))[1].seat["players"][0]) for seed in range(12)}
    assert openers == {0, 1, 2}


def test_hanabi_mover_may_not_wait():
    assert not any(moment.shown.legal["players"][0, -1] for moment in played("hanabi"))


def test_hanabi_refuses_impossible_tables():
    with pytest.raises(UsageError, match="between 2 and 5"):
        make("hanabi", num_agents=9)
    with pytest.raises(UsageError, match="leave nothing"):
        make("hanabi", num_agents=5, num_colors=1, hand_size=2)


def test_switch_riddle_telling_is_terminal_even_on_the_last_step():
    riddle = game("switch_riddle")
    assert play(riddle, lambda shown: {"prisoners": [2, 2, 2]})[-1].terminated
    clock = iter(range(10))
    moments = play(riddle, lambda shown: {"prisoners": [2 if next(clock) == 5 else 0] * 3})
    assert len(moments) - 1 == riddle.env.spec.horizon
    assert moments[-1].terminated and not moments[-1].truncated


def test_switch_riddle_only_the_prisoner_in_the_room_acts():
    for moment in played("switch_riddle"):
        in_room = np.asarray(moment.shown.observation["prisoners"])[:, 0]
        np.testing.assert_array_equal(moment.shown.acting["prisoners"], in_room == 1)
        assert in_room.sum() == 1


def test_switch_riddle_ignores_who_is_not_in_the_room():
    riddle = game("switch_riddle")
    state, shown = riddle.reset(jax.random.key(0))
    outside = jnp.where(shown.acting["prisoners"], 0, 2)
    _, after = riddle.step(jax.random.key(1), state, {"prisoners": outside})
    assert not after.done and not after.reward["prisoners"].any()


def _exchanged(state):
    """The coin game's state with the players' seats exchanged."""
    return state.replace(
        red_pos=state.blue_pos,
        blue_pos=state.red_pos,
        red_coin_pos=state.blue_coin_pos,
        blue_coin_pos=state.red_coin_pos,
    )


@pytest.mark.parametrize("egocentric", [False, True])
def test_coin_game_players_may_be_exchanged(egocentric):
    coins = player("coin_game", egocentric=egocentric)
    assert coins.env.spec.symmetric and coins.env.spec.groups[0].rivals
    rng, moved = np.random.default_rng(0), 0
    state, shown = coins.reset(jax.random.key(0))
    for i in range(20):
        actions = random_actions(rng, coins, shown)["players"]
        _, mirror = coins.step(jax.random.key(i), _exchanged(state), {"players": actions[::-1]})
        after, shown = coins.step(jax.random.key(i), state, {"players": actions})
        np.testing.assert_array_equal(shown.reward["players"], mirror.reward["players"][::-1])
        if not shown.reward["players"].any():  # else new coins are drawn, by colour
            moved += 1
            if after.step > 0:
                np.testing.assert_array_equal(shown.observation["players"], mirror.observation["players"][::-1])
        state = after
    assert 0 < moved < 20


def test_coin_game_with_unlike_payoffs_has_two_groups():
    spec = make("coin_game", payoff_matrix=[[1, 1, -2], [2, 1, -2]]).spec
    assert [g.name for g in spec.groups] == ["player_0", "player_1"] and not spec.symmetric
    assert make("coin_game", shared_rewards=True).spec.reward == "common"


def test_storm_of_many_plays_to_its_horizon():
    storms = player("storm", variant="np", num_agents=3, num_inner_steps=6)
    rng = np.random.default_rng(0)
    moments = play(storms, lambda shown: random_actions(rng, storms, shown))
    assert len(moments) - 1 == storms.env.spec.horizon == 6
    assert moments[-1].truncated and moments[-1].observation["players"].shape == (3, 350)


def test_storm_refuses_what_the_suite_cannot_play():
    with pytest.raises(UsageError, match="not for 3 agents"):
        make("storm", num_agents=3)
    with pytest.raises(UsageError, match="exchangeable"):
        make("storm", payoff_matrix=[[[3, 0], [5, 1]], [[3, 0], [5, 1]]])


def test_every_map_and_layout_has_a_name():
    assert {"smax/3m", "smax/27m_vs_30m", "smax/smacv2_5_units-versus"} <= set(names("smax"))
    assert {"overcooked/counter_circuit", "overcooked/forced_coord"} <= set(names("overcooked"))
    for module in (hanabi, switch_riddle, coin_game, storm):
        assert module.NAMES == ("",)
    for name in overcooked.NAMES:
        assert make(f"overcooked/{name}").spec.name == f"overcooked/{name}"
    for name in ("2s3z", "smacv2_5_units", "3s5z_vs_3s6z-versus"):
        assert name in smax.NAMES and make(f"smax/{name}").spec.name == f"smax/{name}"


@pytest.mark.parametrize("name", ["smax/3m", "overcooked/cramped_room", "storm"])
def test_episodes_can_be_drawn(name, tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng, drawn = np.random.default_rng(0), game(name)
    states = [drawn.reset(jax.random.key(0))]
    for i in range(2):
        actions = random_actions(rng, drawn, states[-1][1])
        states.append(drawn.step(jax.random.key(i), states[-1][0], actions))
    drawn.env.render([state for state, _ in states], str(tmp_path / "episode.gif"))
    with image.open(tmp_path / "episode.gif") as gif:
        assert gif.format == "GIF" and gif.n_frames >= 2
