"""Shows a run as tables on the terminal and keeps it as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.targets import TARGETS

Json = dict[str, Any]
ROWS: tuple[tuple[str, str, str], ...] = (
    ("raw.workflows_per_s", "raw load: workflows/s", "{:,.0f}"),
    ("raw.p50_ms", "raw load: p50 latency, ms", "{:,.1f}"),
    ("raw.p99_ms", "raw load: p99 latency, ms", "{:,.1f}"),
    ("raw.server_cpu_ms_per_workflow", "raw load: server CPU per workflow, ms", "{:.2f}"),
    ("raw.generator_cpu_ms_per_workflow", "raw load: generator CPU per workflow, ms", "{:.2f}"),
    ("raw.server_resident_mb", "raw load: memory after, MB", "{:,.0f}"),
    ("raw_sequential.p50_ms", "one at a time: p50 latency, ms", "{:,.2f}"),
    ("raw_sequential.p99_ms", "one at a time: p99 latency, ms", "{:,.2f}"),
    ("raw_sequential.server_cpu_ms_per_workflow", "one at a time: server CPU per workflow, ms", "{:.2f}"),
    ("sdk.workflows_per_s", "Python SDK: workflows/s", "{:,.0f}"),
    ("sdk.p50_ms", "Python SDK: p50 latency, ms", "{:,.1f}"),
    ("sdk.p99_ms", "Python SDK: p99 latency, ms", "{:,.1f}"),
    ("sdk.server_cpu_ms_per_workflow", "Python SDK: server CPU per workflow, ms", "{:.2f}"),
    ("sdk.generator_cpu_ms_per_workflow", "Python SDK: client + worker CPU per workflow, ms", "{:.2f}"),
    ("raw.others_busy_percent", "raw load: taken by other processes, % of machine", "{:.0f}"),
    ("start.startup_s", "start to first accepted request, s", "{:.2f}"),
    ("start.idle_resident_mb", "memory when idle, MB", "{:,.0f}"),
)
OURS = "perdure-file"
MAX_NOISE_PERCENT = 10.0


def _median(report: Json, figure: str) -> float | None:
    entry = report["summary"].get(OURS, {}).get(figure)
    return entry["median"] if entry else None


def _ratio(report: Json, figure: str) -> float | None:
    value: float | None = report["ratios_to_reference"].get(OURS, {}).get(figure)
    return value


# What is aimed at on two cores with durable commits: (words, figure, how it is read, limit, at least?).
GOALS: tuple[tuple[str, str, Callable[[Json, str], float | None], float, bool], ...] = (
    ("workflows/s against the real dev server on a file (raw)", "raw.workflows_per_s", _ratio, 8.0, True),
    ("server CPU per workflow, ms (raw)", "raw.server_cpu_ms_per_workflow", _median, 2.5, False),
    ("one at a time: p50, ms", "raw_sequential.p50_ms", _median, 10.0, False),
    ("start to first accepted request, s", "start.startup_s", _median, 1.0, False),
    ("memory when idle, MB", "start.idle_resident_mb", _median, 120.0, False),
)


def goals(report: Json) -> list[Json]:
    """Each goal that this run can judge: value, limit, met."""
    found = []
    for words, figure, read, limit, at_least in GOALS:
        value = read(report, figure)
        if value is not None:
            met = value >= limit if at_least else value <= limit
            found.append({"goal": words, "value": value, "limit": limit, "at_least": at_least, "met": met})
    return found


def show(report: Json, console: Console) -> None:
    """Print the medians of every target, the goals, and why the run is invalid if it is."""
    options, machine = report["options"], report["machine"]
    table = Table(
        title=f"Medians of {options['rounds']} rounds of {options['seconds']:g} s, "
        f"concurrency {options['concurrency']}, {machine['cores']} cores, Python {machine['python']}",
        title_justify="left",
    )
    table.add_column("")
    names = list(report["summary"])
    for name in names:
        table.add_column(TARGETS[name].title, justify="right")
    for figure, words, pattern in ROWS:
        cells = [_cell(report["summary"][name].get(figure), pattern, report, name, figure) for name in names]
        if any(cells):
            table.add_row(words, *cells)
    console.print(table)
    console.print(f"[dim]in brackets: times the {report['reference']} figure[/dim]")
    for goal in report["goals"]:
        sign, colour = (">=" if goal["at_least"] else "<="), ("green" if goal["met"] else "red")
        verdict = "met" if goal["met"] else "MISSED"
        console.print(
            f"[{colour}]{verdict:<7}[/] {goal['goal']}: {goal['value']:.2f} (goal {sign} {goal['limit']:g})"
        )
    noise = others_busy_percent(report)
    if noise > MAX_NOISE_PERCENT:
        console.print(
            f"[red]NOISY[/red] other processes used {noise:.0f} % of the machine: repeat it when it is quiet"
        )
    for reason in report["invalid_reasons"]:
        console.print(f"[red]INVALID[/red] {reason}", highlight=False)


def others_busy_percent(report: Json) -> float:
    """The greatest share of the machine that other processes took in any median."""
    shares = (
        entry["median"]
        for figures in report["summary"].values()
        for name, entry in figures.items()
        if name.endswith(".others_busy_percent")
    )
    return max(shares, default=0.0)


def _cell(entry: Json | None, pattern: str, report: Json, name: str, figure: str) -> str:
    if entry is None:
        return ""
    ratio = report["ratios_to_reference"].get(name, {}).get(figure)
    times = f" ({ratio:.3g}x)" if ratio is not None else ""
    return pattern.format(entry["median"]) + times


def show_size(result: Json, console: Console) -> None:
    """Print the comparison of a large database with an empty one."""
    sizes = result["sizes"]
    table = Table(
        title=f"{sizes['closed']:,} closed and {sizes['open']:,} open runs, {result['database_mb']:,.0f} MB",
        title_justify="left",
    )
    for heading in ("", "empty", "large"):
        table.add_column(heading, justify="right" if heading else "left")
    for figure in result["figures"]["empty"]:
        values = [result["figures"][name][figure] for name in ("empty", "large")]
        table.add_row(figure, *("" if value is None else f"{value:,.2f}" for value in values))
    console.print(table)
    kept = result["throughput_kept"]
    if kept is not None:
        met = kept >= result["least_share"]
        verdict = "[green]met[/green]" if met else "[red]MISSED[/red]"
        console.print(f"{verdict} throughput kept: {kept:.0%} (goal >= {result['least_share']:.0%})")
    for reason in result["invalid_reasons"]:
        console.print(f"[red]INVALID[/red] {reason}", highlight=False)


def write(report: Json, path: Path) -> None:
    """Keep the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
