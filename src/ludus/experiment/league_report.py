"""A league's report: payoffs, the meta-strategy over generations, ratings, exploitability, and who came from whom."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np

from ludus.core.errors import UsageError
from ludus.experiment.league import LeagueRun, open_league
from ludus.storage.files import write_atomically

MOST = 40  # policies in a figure; of more, the newest


def write_league_report(path: Path, out: Path | None = None) -> dict[str, Any]:
    """Write figures and `report.html`; returns the paths and what they show as text."""
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("reports need matplotlib: pip install 'ludus[report]'") from error
    matplotlib.use("Agg")
    run = open_league(path).begun()
    directory = out or path / "report"
    figures = {
        "payoffs": _payoffs(run),
        "meta-strategy": _meta(run),
        "ratings": _ratings(run),
        "lineage": _lineage(run),
    }
    if any(row["nash_conv"] is not None for row in run.league.history):
        figures["exploitability"] = _exploitability(run)
    for name, data in figures.items():
        write_atomically(directory / f"{name}.png", data)
    text = _text(run)
    page = directory / "report.html"
    write_atomically(page, _page(run, figures, text).encode())
    found = run.to_dict()
    return {"page": str(page), "figures": [str(directory / f"{n}.png") for n in figures], "text": text, "league": found}


def _png(figure: Any) -> bytes:
    from matplotlib import pyplot

    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, metadata={"Software": None}, dpi=110)
    pyplot.close(figure)
    return buffer.getvalue()


def _names(run: LeagueRun, team: str) -> list[str]:
    return [e.name for e in run.league.population.of(run.roles[team])][-MOST:]


def _payoffs(run: LeagueRun) -> bytes:
    """The first two teams' policies against each other: the first team's mean return; of more teams, the best known."""
    from matplotlib import pyplot

    teams = run.env.spec.teams
    rows, columns = _names(run, teams[0]), _names(run, teams[1])
    table = np.full((len(rows), len(columns)), np.nan)
    for profile, cell in run.league.table.cells.items():
        if profile[0] in rows and profile[1] in columns:
            table[rows.index(profile[0]), columns.index(profile[1])] = cell.mean[0]
    most = np.nanmax(np.abs(table)) if np.isfinite(table).any() else 1.0
    size = 2.5 + 0.28 * max(len(rows), len(columns))
    figure, axes = pyplot.subplots(figsize=(size + 1, size))
    image = axes.imshow(table, cmap="RdBu", vmin=-most, vmax=most)
    axes.set(xlabel=teams[1], ylabel=teams[0], title=f"mean return of {teams[0]}")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return _png(figure)


def _meta(run: LeagueRun) -> bytes:
    from matplotlib import pyplot

    teams = list(dict.fromkeys(run.roles.values()))
    shown = [next(t for t, role in run.roles.items() if role == r) for r in teams]
    figure, all_axes = pyplot.subplots(len(shown), 1, figsize=(8, 2.8 * len(shown)), squeeze=False)
    for axes, team in zip(all_axes[:, 0], shown, strict=True):
        names = list(dict.fromkeys(n for row in run.league.history for n in row["mixtures"].get(team, {})))
        x = [row["generation"] for row in run.league.history]
        stack = [[row["mixtures"].get(team, {}).get(n, 0.0) for row in run.league.history] for n in names]
        axes.stackplot(x, stack, labels=names[:12])
        axes.set(ylabel="share", title=f"meta-strategy of {team}", ylim=(0, 1), xlabel="generation")
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return _png(figure)


def _ratings(run: LeagueRun) -> bytes:
    """Elo by generation of freezing, one line for each member."""
    from matplotlib import pyplot

    found = run.ratings()["elo"]
    figure, axes = pyplot.subplots(figsize=(7, 3.8))
    members: dict[str, list[Any]] = {}
    for entry in run.league.population:
        members.setdefault(entry.member, []).append(entry)
    for member, entries in members.items():
        axes.plot([e.generation for e in entries], [found[e.name] for e in entries], "o-", ms=3, label=member)
    axes.set(xlabel="generation of freezing", ylabel="Elo", title="ratings of frozen policies")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=7)
    return _png(figure)


def _exploitability(run: LeagueRun) -> bytes:
    from matplotlib import pyplot

    players = len(run.env.spec.teams)
    figure, axes = pyplot.subplots(figsize=(7, 3.8))
    rows = [row for row in run.league.history if row["nash_conv"] is not None]
    axes.plot([r["generation"] for r in rows], [r["nash_conv"] / players for r in rows], "o-", ms=3)
    axes.set(xlabel="generation", ylabel="exploitability (NashConv / players)", title="of the meta-strategy, exact")
    axes.grid(alpha=0.3)
    return _png(figure)


def _lineage(run: LeagueRun) -> bytes:
    """Every frozen policy by generation, with a line to the one that its training began from."""
    from matplotlib import pyplot

    entries = list(run.league.population)[-4 * MOST :]
    members = list(dict.fromkeys(e.member for e in entries))
    place = {e.name: (e.generation, members.index(e.member)) for e in entries}
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.5 * len(members)))
    for e in entries:
        x, y = place[e.name]
        axes.plot(x, y, "o", ms=5, color="tab:red" if e.damaged else "tab:blue")
        if e.parent in place:
            axes.plot([place[e.parent][0], x], [place[e.parent][1], y], "-", lw=0.8, color="gray", zorder=0)
    axes.set_yticks(range(len(members)), members, fontsize=7)
    axes.set(xlabel="generation", title="lineage: a policy and what its training began from")
    return _png(figure)


def _text(run: LeagueRun) -> str:
    found = run.ratings()
    kinds = list(found)
    lines = [f"{'policy':<28}{'generation':>11}{'steps':>14}" + "".join(f"{k.replace('_', ' '):>14}" for k in kinds)]
    for e in sorted(run.league.population, key=lambda e: -found["elo"][e.name]):
        row = "".join(f"{found[k].get(e.name, float('nan')):>14.3f}" for k in kinds)
        lines.append(f"{e.name:<28}{e.generation:>11}{e.steps:>14,}{row}")
    last = run.league.history[-1]
    if last["nash_conv"] is not None:
        players = len(run.env.spec.teams)
        lines.append(
            f"NashConv {last['nash_conv']:.4f}, exploitability (NashConv / players) {last['nash_conv'] / players:.4f}"
        )
    return "\n".join(lines)


def _page(run: LeagueRun, figures: dict[str, bytes], text: str) -> str:
    images = "".join(
        f'<figure><img alt="{name}" src="data:image/png;base64,{base64.b64encode(data).decode()}"></figure>'
        for name, data in figures.items()
    )
    title = f"{run.config.preset} in {run.config.environment}"
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Ludus league</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "pre{font-size:13px;overflow-x:auto}img{max-width:100%}figure{margin:1rem 0}</style>"
        f"<h1>{html.escape(title)}</h1><p>Generation {run.league.generation}, {len(run.league.population)} policies. "
        "Returns of a team are the mean over its agents.</p>"
        f"{images}<pre>{html.escape(text)}</pre></html>"
    )
