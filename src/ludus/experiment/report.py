"""Reports: learning curves with intervals over seeds, a table of final returns, and one self-contained page."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ludus.core.errors import UsageError
from ludus.experiment.run_directory import EVALUATIONS, METRICS, TIMING, RunDirectory
from ludus.experiment.statistics import bootstrap_interval, interquartile_mean, mean_interval
from ludus.storage.files import write_atomically

_POINTS = 100  # a training curve is averaged into at most this many points


# Settings that say how a run is watched, or which seeds it has, and not what it learns.
_WATCHING = ("seed", "seeds", "evaluate_every", "evaluate_episodes", "evaluate_explore", "checkpoint_every", "devices")
_TRAINING = "training episodes"


@dataclass
class Series:
    """One algorithm in one game with one configuration: the runs of all its seeds."""

    label: str
    environment: str
    settings: dict[str, Any]  # what shapes learning, flat
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)  # group -> (steps, return)s
    final: dict[str, list[float]] = field(default_factory=dict)  # group -> last value of each seed
    seconds: list[float] = field(default_factory=list)
    steps: int = 0
    drawn: str = _TRAINING  # what the curves show
    measured: str = _TRAINING  # what the final values are


def write_report(runs: list[Path], out: Path | None = None) -> dict[str, Any]:
    """Write PNG curves and `report.html`; returns the paths, the table as text, and its numbers."""
    runs = list({path.resolve(): path for path in runs}.values())
    series = _gather(runs)
    directory = out or runs[0] / "report"
    rows = [_row(s, group) for s in series for group in s.curves]
    figures = []
    for environment in dict.fromkeys(s.environment for s in series):
        for group in dict.fromkeys(g for s in series if s.environment == environment for g in s.curves):
            chosen = [s for s in series if s.environment == environment and group in s.curves]
            data = _plot(chosen, environment, group)
            path = directory / f"{environment.replace('/', '-')}-{group}.png"
            write_atomically(path, data)
            figures.append((f"{environment}, {group}", data, path))
    page = directory / "report.html"
    write_atomically(page, _page(rows, figures).encode())
    return {
        "page": str(page),
        "figures": [str(path) for _, _, path in figures],
        "rows": rows,
        "text": _text(rows),
    }


def _gather(runs: list[Path]) -> list[Series]:
    found: dict[str, list[tuple[Path, RunDirectory]]] = {}
    for path in runs:
        run = RunDirectory.open(path, lock=False)
        found.setdefault(json.dumps(_shaping(run), sort_keys=True), []).append((path, run))
    series = [_series(members) for members in found.values()]
    labels = []
    for own in series:  # configurations of one algorithm in one game are told apart by what differs
        rivals = [s.settings for s in series if (s.label, s.environment) == (own.label, own.environment)]
        keys = dict.fromkeys(key for settings in rivals for key in settings)
        differing = [key for key in keys if len({json.dumps(settings.get(key)) for settings in rivals}) > 1]
        labels.append(" ".join([own.label, *(f"{k.split('.')[-1]}={own.settings.get(k)}" for k in differing)]))
    for own, label in zip(series, labels, strict=True):
        own.label = label
    return series


def _shaping(run: RunDirectory) -> dict[str, Any]:
    """The configuration, flat, without what does not change what is learned."""
    flat: dict[str, Any] = {}

    def walk(table: dict[str, Any], path: str) -> None:
        for key, value in table.items():
            if isinstance(value, dict):
                walk(value, f"{path}{key}.")
            else:
                flat[f"{path}{key}"] = value

    walk(run.config().to_dict(), "")
    return {k: v for k, v in flat.items() if not (k.startswith("settings.") and k.split(".")[-1] in _WATCHING)}


def _series(members: list[tuple[Path, RunDirectory]]) -> Series:
    """The runs of one configuration. Curves, and final values, of all seeds are of one kind."""
    settings = _shaping(members[0][1])
    series = Series(settings.pop("algorithm.name"), settings.pop("environment.name"), settings)
    seeds: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = []  # metrics and evaluations of each
    for path, run in members:
        metrics, evaluations = run.rows(METRICS), run.rows(EVALUATIONS)
        if not metrics:
            raise UsageError(f"{path} has no metrics yet: nothing to report")
        series.seconds += [row["seconds"] for row in run.rows(TIMING)]
        series.steps = max(series.steps, metrics[-1]["steps"])
        for seed in dict.fromkeys(row["seed"] for row in metrics):
            of = lambda rows, seed=seed: [row for row in rows if row["seed"] == seed]
            seeds.append((of(metrics), of(evaluations)))
    evaluated = min(len(own) for _, own in seeds)
    if evaluated:
        series.measured = _kind(seeds[0][1][-1])
    if evaluated >= 3:
        series.drawn = series.measured
    for metrics, own in seeds:
        for group in metrics[0]["return"]:
            curve = _training_curve(metrics, group)
            if evaluated >= 3:
                values = [row["mean_return"][group] for row in own]
                curve = np.array([row["steps"] for row in own], float), np.array(values, float)
            series.curves.setdefault(group, []).append(curve)
            if evaluated or len(curve[1]):
                last = own[-1]["mean_return"][group] if evaluated else curve[1][-1]
                series.final.setdefault(group, []).append(float(last))
    return series


def _kind(row: dict[str, Any]) -> str:
    """What an evaluation measures, in words."""
    against = f" against {row['against']} play" if row.get("against") else ""
    return f"evaluation, {'sampled' if row.get('explore') else 'greedy'}{against}"


def _training_curve(rows: list[dict[str, Any]], group: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns of training episodes, averaged by episode into few points."""
    known = [row for row in rows if row["episodes"]]
    steps, values = [], []
    for part in np.array_split(np.arange(len(known)), min(_POINTS, max(len(known), 1))):
        if len(part):
            weights = [known[i]["episodes"] for i in part]
            steps.append(known[part[-1]]["steps"])
            values.append(np.average([known[i]["return"][group] for i in part], weights=weights))
    return np.array(steps, float), np.array(values, float)


def _row(series: Series, group: str) -> dict[str, Any]:
    final = np.array(series.final.get(group, [np.nan]))
    mean, interval = mean_interval(final)
    return {
        "algorithm": series.label,
        "environment": series.environment,
        "group": group,
        "seeds": len(final),
        "steps": series.steps,
        "of": series.measured,
        "mean": mean,
        "interval": interval,
        "interquartile_mean": interquartile_mean(final),
        "interquartile_interval": bootstrap_interval(final),
        "seconds": float(np.mean(series.seconds)) if series.seconds else None,
    }


def _text(rows: list[dict[str, Any]]) -> str:
    wide = max(len(r["algorithm"]) for r in rows)
    lines = [
        f"{'algorithm':<{wide}} {'environment':<28} {'group':<12} {'seeds':>5} {'steps':>12} {'return per agent':>17} "
        f"{'95 % interval':>22} {'IQM':>9} {'bootstrap interval':>22}  of"
    ]
    span = lambda pair: f"[{pair[0]:.3f}, {pair[1]:.3f}]"
    for r in rows:
        lines.append(
            f"{r['algorithm']:<{wide}} {r['environment']:<28} {r['group']:<12} {r['seeds']:>5} {r['steps']:>12,} "
            f"{r['mean']:>17.3f} {span(r['interval']):>22} {r['interquartile_mean']:>9.3f} "
            f"{span(r['interquartile_interval']):>22}  {r['of']}"
        )
    return "\n".join(lines)


def _plot(series: list[Series], environment: str, group: str) -> bytes:
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("reports need matplotlib: pip install 'ludus[report]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=120)
    kinds = {s.drawn for s in series}
    for s in series:
        curves = [c for c in s.curves[group] if len(c[0])]
        if not curves:
            continue
        grid = np.unique(np.concatenate([steps for steps, _ in curves]))
        grid = grid[grid <= min(steps[-1] for steps, _ in curves)]
        table = np.stack([np.interp(grid, steps, values) for steps, values in curves])
        middle = [mean_interval(column) for column in table.T]
        line = axes.plot(grid, [m for m, _ in middle], label=_legend(s, len(curves), kinds))[0]
        if len(curves) > 1:
            axes.fill_between(
                grid, [i[0] for _, i in middle], [i[1] for _, i in middle], alpha=0.2, color=line.get_color()
            )
    shown = f"\n{kinds.pop()}" if len(kinds) == 1 else ""
    axes.set(xlabel="environment steps", ylabel=f"episode return per agent{shown}", title=f"{environment}, {group}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()


def _legend(series: Series, seeds: int, kinds: set[str]) -> str:
    shown = f", {series.drawn}" if len(kinds) > 1 else ""
    return f"{series.label} ({seeds} seed{'s' if seeds > 1 else ''}{shown})"


def _page(rows: list[dict[str, Any]], figures: list[tuple[str, bytes, Path]]) -> str:
    cell = lambda x: f"<td>{html.escape(str(x))}</td>"
    span = lambda pair: f"[{pair[0]:.3f}, {pair[1]:.3f}]"
    body = "".join(
        "<tr>"
        + "".join(
            cell(x)
            for x in (
                r["algorithm"],
                r["environment"],
                r["group"],
                r["seeds"],
                f"{r['steps']:,}",
                r["of"],
                f"{r['mean']:.3f}",
                span(r["interval"]),
                f"{r['interquartile_mean']:.3f}",
                span(r["interquartile_interval"]),
                "" if r["seconds"] is None else f"{r['seconds']:.0f}",
            )
        )
        + "</tr>"
        for r in rows
    )
    heads = (
        "algorithm", "environment", "group", "seeds", "steps", "of", "return per agent",
        "95 % interval (t, over seeds)",
        "interquartile mean", "95 % bootstrap interval", "seconds",
    )  # fmt: skip
    images = "".join(
        f'<figure><img alt="{html.escape(title)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}"></figure>'
        for title, data, _ in figures
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Ludus report</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;font-size:14px}td,th{border:1px solid #ccc;padding:.3rem .6rem;"
        "text-align:right}"
        "td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}img{max-width:100%}figure{margin:1rem 0}</style>"
        "<h1>Ludus report</h1><p>Returns are episode returns per agent: the mean over a group's agents. Final values "
        "are those of the last evaluation of each seed, or of its last training episodes where it has none.</p>"
        f"<table><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{body}</table>{images}</html>"
    )
