"""Throughput with a large database against an empty one: the same server and load, alternating."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.rounds import Json, RunOptions, invalid_reasons, machine, progress_line, run_load, scenarios
from benchmarks.targets import TARGETS, ServerFailedError, running

TARGET = "perdure-file"
LEAST_SHARE = 0.8
FIGURES = (
    "startup_s",
    "idle_resident_mb",
    "raw.workflows_per_s",
    "raw.server_cpu_ms_per_workflow",
    "raw_sequential.p50_ms",
    "raw_sequential.server_cpu_ms_per_workflow",
)


def run_size(database: Path, sizes: dict[str, int], options: RunOptions, tell: Callable[[str], None]) -> Json:
    """Measure on a new file and on `database` in turn; the report holds both and the share that is kept."""
    results: list[Json] = []
    for number in range(1, options.rounds + 1):
        pair: list[tuple[str, Path | None]] = [("empty", None), ("large", database)]
        for name, path in pair if number % 2 else reversed(pair):
            result: Json = {"round": number, "target": name, "loads": {}}
            results.append(result)
            try:
                with running(TARGETS[TARGET], path) as server:
                    result |= {"startup_s": server.startup_s, "idle_resident_mb": server.idle_resident_mb}
                    for scenario, load, concurrency in scenarios(options):
                        result["loads"][scenario] = run_load(server, options, load, concurrency)
                        tell(progress_line(result, scenario))
            except ServerFailedError as error:
                result["failure"] = str(error)
                tell(f"{name}: {error}")
    reasons = invalid_reasons(results, options)
    figures = {
        name: {figure: _median(results, name, figure) for figure in FIGURES} for name in ("empty", "large")
    }
    empty, large = figures["empty"]["raw.workflows_per_s"], figures["large"]["raw.workflows_per_s"]
    return {
        "machine": machine(),
        "sizes": sizes,
        "database_mb": database.stat().st_size / 1e6,
        "valid": not reasons,
        "invalid_reasons": reasons,
        "figures": figures,
        "throughput_kept": large / empty if empty and large else None,
        "least_share": LEAST_SHARE,
        "rounds": results,
    }


def _median(results: list[Json], target: str, figure: str) -> float | None:
    scenario, _, name = figure.rpartition(".")
    values = []
    for result in results:
        source = result["loads"].get(scenario, {}) if scenario else result
        if result["target"] == target and name in source:
            values.append(source[name])
    return statistics.median(values) if values else None
