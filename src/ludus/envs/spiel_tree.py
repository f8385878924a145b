"""Any finite OpenSpiel game as a `GameTree`."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pyspiel

from ludus.core.errors import UsageError, nearest
from ludus.core.tree import CHANCE, TERMINAL, GameTree

MAX_NODES = 5_000_000
_FORMAT = 1  # of cached files


def load_game(text: str) -> Any:
    """The OpenSpiel game of that name and parameters, for example `leduc_poker` or `goofspiel(num_cards=4)`."""
    name = text.partition("(")[0]
    if name not in pyspiel.registered_names():
        raise UsageError(f"OpenSpiel has no game '{name}'{nearest(name, pyspiel.registered_names())}")
    known = next(t for t in pyspiel.registered_games() if t.short_name == name).parameter_specification
    try:
        given = pyspiel.game_parameters_from_string(text)
    except pyspiel.SpielError as error:
        raise UsageError(f"cannot read the parameters of '{text}': {_first_line(error)}") from error
    for parameter in given:
        if parameter != "name" and parameter not in known:
            hint = nearest(parameter, known) or f"; it takes: {', '.join(sorted(known)) or 'none'}"
            raise UsageError(f"OpenSpiel's '{name}' has no parameter '{parameter}'{hint}")
    try:
        game = pyspiel.load_game(text)
        if game.get_type().dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS:
            game = pyspiel.convert_to_turn_based(game)
    except pyspiel.SpielError as error:
        raise UsageError(f"OpenSpiel cannot load '{text}': {_first_line(error)}") from error
    return game


def compile_tree(text: str, *, max_nodes: int = MAX_NODES, cache: bool = True) -> GameTree:
    """The tree of an OpenSpiel game, from disk where it was compiled before.

    Raises `UsageError` for an unknown game or parameter, and for a tree of more than `max_nodes` nodes.
    """
    game = load_game(text)
    content = f"{_FORMAT} {version('open_spiel')} {game}"
    path = _cache_directory() / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.npz"
    tree = _read(path, text) if cache else None
    if tree is None:
        tree = _enumerate(game, text, max_nodes)
        if cache:
            _write(path, tree)
    if tree.num_nodes > max_nodes:
        raise UsageError(f"the tree of '{text}' has {tree.num_nodes} nodes, more than max_nodes={max_nodes}")
    return tree


def _enumerate(game: Any, text: str, max_nodes: int) -> GameTree:
    """Breadth first, so that siblings lie side by side.

    Information sets are OpenSpiel's, told apart by the mover's own past moves where its strings forget them.
    """
    players, kind = game.num_players(), game.get_type()
    if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        raise UsageError(f"'{text}' samples chance inside the game, so that its tree cannot be enumerated")
    width = game.num_distinct_actions()
    nodes: list[tuple[int, int, int, int]] = []  # who moves, where, the first child, how many
    edges: list[tuple[int, float]] = [(-1, 1.0)]  # from where, with what chance
    ends: list[tuple[int, list[float]]] = []
    infosets: list[tuple[int, list[int], list[float]]] = []  # whose, what is legal, what is seen
    number: dict[tuple[int, str, int], int] = {}
    see = _observer(kind)
    level = [(game.new_initial_state(), (-1,) * players)]
    while level:
        below = []
        for state, past in level:
            node, mover, index = len(nodes), state.current_player(), -1
            if state.is_terminal():
                nodes.append((TERMINAL, -1, 0, 0))
                ends.append((node, state.returns()))
                continue
            if mover == pyspiel.PlayerId.CHANCE:
                outcomes = [(a, p) for a, p in state.chance_outcomes() if p > 0]
            elif mover < 0:
                raise UsageError(f"'{text}' has a node that neither a player nor chance decides")
            else:
                moves = state.legal_actions()
                outcomes = [(a, 1.0) for a in moves]
                key = (mover, state.information_state_string(mover), past[mover])
                index = number.setdefault(key, len(number))
                if index == len(infosets):
                    infosets.append((mover, moves, see(state, mover)))
                elif infosets[index][1] != moves:
                    raise UsageError(
                        f"'{text}' offers different actions at '{key[1]}', which looks the same to a player"
                    )
            nodes.append((CHANCE if index < 0 else mover, index, len(edges), len(outcomes)))
            for action, probability in outcomes:
                edges.append((node, probability))
                own = past if index < 0 else (*past[:mover], index * width + action, *past[mover + 1 :])
                below.append((state.child(action), own))
            if len(edges) > max_nodes:
                raise UsageError(
                    f"the tree of '{text}' has more than {max_nodes} nodes ({len(edges)} so far, {len(nodes)} of them "
                    f"expanded); give a larger max_nodes, or use smaller parameters"
                )
        level = below
    names = tuple(name for _, name, _ in number)
    return _arrays(game, text, nodes, edges, ends, infosets, names)


def _arrays(
    game: Any,
    text: str,
    nodes: list[tuple[int, int, int, int]],
    edges: list[tuple[int, float]],
    ends: list[tuple[int, list[float]]],
    infosets: list[tuple[int, list[int], list[float]]],
    names: tuple[str, ...],
) -> GameTree:
    """What `_enumerate` found, as arrays."""
    players, width = game.num_players(), game.num_distinct_actions()
    player, infoset, first, count = np.asarray(nodes, np.int32).T
    parent, chance = zip(*edges, strict=True)
    utility = np.zeros((len(nodes), players))
    utility[[node for node, _ in ends]] = [earned for _, earned in ends]
    mask = np.zeros((len(infosets), width), bool)
    for row, (_, moves, _) in zip(mask, infosets, strict=True):
        row[moves] = True
    seen = np.asarray([x for _, _, x in infosets], np.float32).reshape(len(infosets), -1)
    if seen.shape[1] == 0:  # games without a tensor: a one-hot of the information set
        seen = np.eye(len(infosets), dtype=np.float32)
    return GameTree(
        name=text,
        players=players,
        player=player,
        infoset=infoset,
        parent=np.asarray(parent, np.int32),
        first_child=first,
        num_children=count,
        chance=np.asarray(chance),
        utility=utility,
        infoset_player=np.asarray([owner for owner, _, _ in infosets], np.int32),
        legal=mask,
        observation=seen,
        infoset_names=names,
        action_names=_action_names(game, width),
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _observer(kind: Any) -> Any:
    """What a player sees with perfect recall, as a tensor where the game has one."""
    if kind.provides_information_state_tensor:
        return lambda state, player: state.information_state_tensor(player)
    return lambda state, player: []


def _action_names(game: Any, width: int) -> tuple[str, ...]:
    state = game.new_initial_state()
    while state.is_chance_node():
        state.apply_action(state.chance_outcomes()[0][0])
    names = []
    for action in range(width):
        try:
            names.append(state.action_to_string(state.current_player(), action))
        except (pyspiel.SpielError, RuntimeError):
            names.append(str(action))
    return tuple(names)


_ARRAYS = (
    "player",
    "infoset",
    "parent",
    "first_child",
    "num_children",
    "chance",
    "utility",
    "infoset_player",
    "legal",
    "observation",
    "infoset_names",
    "action_names",
)


def _cache_directory() -> Path:
    return Path(os.environ.get("LUDUS_CACHE") or platformdirs.user_cache_dir("ludus")) / "trees"


def _write(path: Path, tree: GameTree) -> None:
    """A cache is a convenience: where it cannot be written, the game is compiled anew next time."""
    arrays: dict[str, Any] = {name: np.asarray(getattr(tree, name)) for name in _ARRAYS}
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, players=np.asarray(tree.players), **arrays)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True) if temporary else None


def _read(path: Path, name: str) -> GameTree | None:
    """The cached tree, or None where there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {key: file[key] for key in _ARRAYS}
            players = int(file["players"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    for key in ("infoset_names", "action_names"):
        arrays[key] = tuple(str(x) for x in arrays[key])
    return GameTree(name=name, players=players, **arrays)
