"""Configuration: layers in order, mistakes named with what was meant, and a file that gives back what was run."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import resources

import pytest

from ludus.algorithms.per_team import PerTeam
from ludus.algorithms.policy_gradient.a2c import A2C
from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.core.errors import UsageError
from ludus.experiment import config as configs
from ludus.experiment.config import Config, Settings, from_dict, read_toml, resolve
from ludus.experiment.league_config import resolve_league
from ludus.networks.torso import Network

GAME = "matrix/climbing"

MISTAKES = {
    "algorithm has no field 'learning_rte'; did you mean 'learning_rate'?": {"algorithm": {"learning_rte": 1e-3}},
    "algorithm.network has no field 'hiden'; did you mean 'hidden'?": {"algorithm": {"network": {"hiden": [3]}}},
    "settings has no field 'num_env'; did you mean 'num_envs'?": {"settings": {"num_env": 3}},
    "'matrix/climbing' has no option 'round'; did you mean 'rounds'?": {"environment": {"round": 3}},
    "flag has a table [setings]; did you mean 'settings'?": {"setings": {}},
    "settings has no field 'zzz'; it has: ": {"settings": {"zzz": 3}},
    "settings.seed must be a whole number, not 'one'": {"settings": {"seed": "one"}},
    "settings.seed must be a whole number, not True": {"settings": {"seed": True}},
    "settings.seed must be a whole number, not 1.5": {"settings": {"seed": 1.5}},
    "algorithm.learning_rate must be a number, not 'fast'": {"algorithm": {"learning_rate": "fast"}},
    "algorithm.learning_rate must be a number, not True": {"algorithm": {"learning_rate": True}},
    "algorithm.anneal must be true or false, not 1": {"algorithm": {"anneal": 1}},
    "algorithm.network must be a table, not 64": {"algorithm": {"network": 64}},
    "algorithm.network.hidden must be a list, not 64": {"algorithm": {"network": {"hidden": 64}}},
    "algorithm.network.hidden must be a whole number, not 'a'": {"algorithm": {"network": {"hidden": ["a"]}}},
    "must be one of none, gru, not 'gruu'; did you mean 'gru'?": {"algorithm": {"network": {"memory": "gruu"}}},
    "flag: settings must be a table, like [settings]": {"settings": 3},
    "environment.rounds must be a whole number, not 'many'": {"environment": {"rounds": "many"}},
    "flag is for the algorithm 'a2c', not 'ppo'": {"algorithm": {"name": "a2c"}},
    "flag is for the environment 'matrix/qtran', not 'matrix/climbing'": {"environment": {"name": "matrix/qtran"}},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named_with_what_was_meant(message):
    with pytest.raises(UsageError) as caught:
        resolve("ppo", GAME, flags=MISTAKES[message])
    assert message in str(caught.value)


def test_whole_numbers_stand_for_reals_and_whole_reals_for_whole_numbers():
    config, _ = resolve("ppo", GAME, flags={"algorithm": {"learning_rate": 1}, "settings": {"steps": 1e6}})
    assert repr(config.algorithm.learning_rate) == "1.0" and repr(config.settings.steps) == "1000000"


def test_an_option_of_any_type_takes_any_value():
    payoffs = [[[1.0, -1.0], [-1.0, 1.0]], [[-1.0, 1.0], [1.0, -1.0]]]
    config, _ = resolve("ppo", "matrix/custom", flags={"environment": {"payoffs": payoffs}})
    assert config.options == {"payoffs": payoffs}


def test_flags_override_the_file_the_file_the_preset_and_the_preset_the_defaults(tmp_path, monkeypatch):
    """Oracle: four values, each set by all layers up to one; origins say which."""
    names = ["discount", "trace", "clip", "learning_rate"]
    layer = lambda count, value: {"algorithm": dict.fromkeys(names[:count], value)}
    monkeypatch.setattr(configs, "preset", lambda algorithm, environment: layer(3, 0.1))
    (tmp_path / "run.toml").write_text("[algorithm]\ndiscount = 0.2\ntrace = 0.2\n[settings]\nseed = 5\n")
    config, origin = resolve("ppo", GAME, file=tmp_path / "run.toml", flags=layer(1, 0.3))
    assert [getattr(config.algorithm, name) for name in names] == [0.3, 0.2, 0.1, PPO().learning_rate]
    file = str(tmp_path / "run.toml")
    assert origin == {
        "algorithm.discount": "flag",
        "algorithm.trace": file,
        "algorithm.clip": "preset",
        "settings.seed": file,
    }
    assert config.settings == replace(Settings(), seed=5)


def test_nested_fields_are_merged_one_by_one():
    config, origin = resolve("ppo", GAME, flags={"algorithm": {"network": {"memory": "gru"}}})
    assert config.algorithm.network == replace(Network(), memory="gru")
    assert origin["algorithm.network.memory"] == "flag"


@pytest.mark.parametrize(
    "config",
    [
        Config(PPO(), GAME),
        Config(
            MAPPO(network=Network(hidden=(), conv=(4, 8), memory="gru"), learning_rate=1e-5),
            "matrix/penalty",
            {"rounds": 3, "penalty": -25.0},
            Settings(steps=5, on_nan="skip", checkpoint_every=0.5),
        ),
        Config(PerTeam({"player_0": A2C(discount=0.5), "player_1": PPO(epochs=2)}), "matrix/matching_pennies"),
    ],
    ids=["defaults", "everything", "teams"],
)
def test_a_written_configuration_is_read_back_as_it_was(config):
    """Oracle: the configuration itself, through the text of its file."""
    assert from_dict(tomllib.loads(config.to_toml()), "config.toml") == config


def test_each_team_has_its_table():
    flags = {"algorithm": {"player_0": {"epochs": 7}}}
    config, _ = resolve("player_0=ppo,player_1=a2c", "matrix/matching_pennies", flags=flags)
    assert config.algorithm == PerTeam({"player_0": PPO(epochs=7), "player_1": A2C()})
    with pytest.raises(UsageError, match="no table 'player_2'; did you mean 'player_"):
        resolve("player_0=ppo,player_1=a2c", "matrix/matching_pennies", flags={"algorithm": {"player_2": {}}})


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "bad.toml").write_text("a = [1,")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, words in (
        ("none.toml", "there is no file"),
        ("bad.toml", "is not valid TOML"),
        ("binary.toml", "not valid"),
    ):
        with pytest.raises(UsageError, match=words):
            read_toml(tmp_path / name)
    with pytest.raises(UsageError, match="cannot read"):
        read_toml(tmp_path)
    with pytest.raises(UsageError, match="does not name its algorithm and environment"):
        from_dict({"algorithm": {}}, "config.toml")


def test_shipped_presets_are_right_for_their_games():
    """Oracle: the fields of the algorithms and settings themselves; nothing in a preset is unknown."""
    for algorithm, environments in configs.presets().items():
        for environment in environments:
            layer = configs.preset(algorithm, environment)
            assert layer, f"the preset of {algorithm} for {environment} is not found under its own name"
            merged, _ = resolve(algorithm, environment) if "/" in environment else (None, None)
            assert merged is None or merged.algorithm.rollout_length > 0


def test_shipped_leagues_are_right_for_their_games():
    """Every table of leagues.toml names a league preset and resolves to what it says."""
    tables = tomllib.loads((resources.files("ludus.experiment") / "leagues.toml").read_text())
    for name, games in tables.items():
        for game, layer in games.items():
            environment = {"pgx": "pgx/connect_four"}.get(game, game)
            found = resolve_league(name, environment)
            for field, value in layer["settings"].items():
                assert getattr(found.settings, field) == value
            for field, value in layer.get("algorithm", {}).items():
                if not isinstance(value, dict) and field != "name":
                    assert getattr(found.oracle, field) == value
