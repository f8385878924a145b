"""Reports: learning curves with intervals over seeds, a table of final returns, and one self-contained page."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ludus.core.errors import UsageError
from ludus.experiment.run_directory import EVALUATIONS, METRICS, TIMING, RunDirectory
from ludus.experiment.statistics import bootstrap_interval, interquartile_mean, mean_interval
from ludus.storage.files import write_atomically

_POINTS = 100  # a training curve is averaged into at most this many points


@dataclass
class Series:
    """One algorithm in one game: the runs of all its seeds."""

    label: str
    environment: str
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)  # group -> (steps, return)s
    final: dict[str, list[float]] = field(default_factory=dict)  # group -> last evaluation of each seed
    seconds: list[float] = field(default_factory=list)
    steps: int = 0


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
    found: dict[tuple[str, str], Series] = {}
    for path in runs:
        run = RunDirectory.open(path, lock=False)
        tables = run.config().to_dict()
        label, environment = tables["algorithm"]["name"], tables["environment"]["name"]
        series = found.setdefault((label, environment), Series(label, environment))
        metrics, evaluations = run.rows(METRICS), run.rows(EVALUATIONS)
        if not metrics:
            raise UsageError(f"{path} has no metrics yet: nothing to report")
        series.seconds += [row["seconds"] for row in run.rows(TIMING)]
        series.steps = max(series.steps, metrics[-1]["steps"])
        for seed in dict.fromkeys(row["seed"] for row in metrics):
            own = [row for row in evaluations if row["seed"] == seed]
            for group in metrics[0]["return"]:
                if len(own) >= 3:
                    curve = (
                        np.array([row["steps"] for row in own]),
                        np.array([row["mean_return"][group] for row in own]),
                    )
                else:
                    curve = _training_curve([row for row in metrics if row["seed"] == seed], group)
                series.curves.setdefault(group, []).append(curve)
                last = own[-1]["mean_return"].get(group) if own else (curve[1][-1] if len(curve[1]) else None)
                if last is not None:
                    series.final.setdefault(group, []).append(float(last))
    return list(found.values())


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
        "mean": mean,
        "interval": interval,
        "interquartile_mean": interquartile_mean(final),
        "interquartile_interval": bootstrap_interval(final),
        "seconds": float(np.mean(series.seconds)) if series.seconds else None,
    }


def _text(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'algorithm':<12} {'environment':<28} {'group':<12} {'seeds':>5} {'steps':>12} {'return per agent':>17} "
        f"{'95 % interval':>22} {'IQM':>9} {'bootstrap interval':>22}"
    ]
    span = lambda pair: f"[{pair[0]:.3f}, {pair[1]:.3f}]"
    for r in rows:
        lines.append(
            f"{r['algorithm']:<12} {r['environment']:<28} {r['group']:<12} {r['seeds']:>5} {r['steps']:>12,} "
            f"{r['mean']:>17.3f} {span(r['interval']):>22} {r['interquartile_mean']:>9.3f} "
            f"{span(r['interquartile_interval']):>22}"
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
    for s in series:
        curves = [c for c in s.curves[group] if len(c[0])]
        if not curves:
            continue
        grid = np.unique(np.concatenate([steps for steps, _ in curves]))
        grid = grid[grid <= min(steps[-1] for steps, _ in curves)]
        table = np.stack([np.interp(grid, steps, values) for steps, values in curves])
        middle = [mean_interval(column) for column in table.T]
        line = axes.plot(grid, [m for m, _ in middle], label=f"{s.label} ({len(curves)} seeds)")[0]
        if len(curves) > 1:
            axes.fill_between(
                grid, [i[0] for _, i in middle], [i[1] for _, i in middle], alpha=0.2, color=line.get_color()
            )
    axes.set(xlabel="environment steps", ylabel="episode return per agent", title=f"{environment}, {group}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()


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
        "algorithm", "environment", "group", "seeds", "steps", "return per agent", "95 % interval (t, over seeds)",
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
        "are those of the last evaluation of each seed.</p>"
        f"<table><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{body}</table>{images}</html>"
    )
