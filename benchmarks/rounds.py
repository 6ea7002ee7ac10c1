"""Runs the rounds, every target in turn and fresh each time; medians, ratios, and whether the run is valid."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.targets import TARGETS, RunningServer, ServerFailedError, running

LOAD_GRACE_S = 90.0
REFERENCE = "temporal-file"
Json = dict[str, Any]


@dataclass(frozen=True)
class RunOptions:
    """The run's command-line options."""

    targets: tuple[str, ...]
    rounds: int = 3
    seconds: float = 5.0
    warmup_s: float = 2.0
    concurrency: int = 50
    only: str | None = None
    eager_activity: bool = False
    sticky: bool = True
    floor: int = 20


def load_command(server: RunningServer, options: RunOptions, load: str, concurrency: int) -> list[str]:
    """The command line of one load process."""
    command = [
        sys.executable, "-m", f"benchmarks.{load}_load", "--address", server.address, "--server-pid", str(server.pid),
        "--concurrency", str(concurrency), "--seconds", str(options.seconds), "--warmup-s", str(options.warmup_s),
    ]  # fmt: skip
    if load == "raw":
        command += ["--eager-activity"] * options.eager_activity + ["--no-sticky"] * (not options.sticky)
    return command


def run_load(server: RunningServer, options: RunOptions, load: str, concurrency: int) -> Json:
    """Run one load in its own process; one that crashes or hangs is an outcome with an error."""
    command = load_command(server, options, load, concurrency)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=options.seconds + options.warmup_s + LOAD_GRACE_S,
            check=False,
        )
        if done.returncode == 0:
            outcome: Json = json.loads(done.stdout)
            return outcome
        message = done.stderr[-800:]
    except subprocess.TimeoutExpired:
        message = f"the load did not end within {LOAD_GRACE_S:.0f} s after its window"
    return {"load": load, "concurrency": concurrency, "completed": 0, "errors": 1, "error_samples": [message]}


def scenarios(options: RunOptions) -> list[tuple[str, str, int]]:
    """(name, load, concurrency) of what is run against each server."""
    raw = [("raw", "raw", options.concurrency), ("raw_sequential", "raw", 1)]
    sdk = [("sdk", "sdk", options.concurrency)]
    return {"raw": raw, "sdk": sdk}.get(options.only or "", raw + sdk)


def run_round(target_name: str, number: int, options: RunOptions, tell: Callable[[str], None]) -> Json:
    """Start the target, run every scenario, stop it."""
    result: Json = {"round": number, "target": target_name, "loads": {}}
    try:
        with running(TARGETS[target_name]) as server:
            result |= {"startup_s": server.startup_s, "idle_resident_mb": server.idle_resident_mb}
            for name, load, concurrency in scenarios(options):
                if load == "sdk" and not server.target.speaks_namespaces:
                    continue
                outcome = run_load(server, options, load, concurrency)
                result["loads"][name] = outcome
                tell(progress_line(result, name))
    except ServerFailedError as error:
        result["failure"] = str(error)
        tell(f"round {number}  {target_name}: {error}")
    return result


def progress_line(result: Json, name: str) -> str:
    """One line about one load, short enough for a terminal."""
    outcome = result["loads"][name]
    rate, p50_ms = outcome.get("workflows_per_s", 0), outcome.get("p50_ms", 0)
    cpu_ms = outcome.get("server_cpu_ms_per_workflow", 0)
    where = f"{result['round']} {result['target']:<15} {name:<14}"
    return (
        f"{where} {rate:7.1f} wf/s  p50 {p50_ms:7.1f} ms  CPU {cpu_ms:6.2f} ms/wf  errors {outcome['errors']}"
    )


def invalid_reasons(results: list[Json], options: RunOptions) -> list[str]:
    """Why these figures must not be used: errors, servers that failed, windows with too few workflows."""
    reasons = []
    for result in results:
        where = f"round {result['round']} {result['target']}"
        if "failure" in result:
            reasons.append(f"{where}: {result['failure'].splitlines()[0]}")
        for name, outcome in result["loads"].items():
            if outcome["errors"]:
                reasons.append(
                    f"{where} {name}: {outcome['errors']} errors, e.g. {outcome['error_samples'][0]}"
                )
            elif outcome["completed"] < options.floor:
                reasons.append(
                    f"{where} {name}: only {outcome['completed']} workflows, floor {options.floor}"
                )
    return reasons


def summarise(results: list[Json]) -> dict[str, dict[str, Json]]:
    """Median, least and greatest of every figure, by target and by `scenario.figure`."""
    values: dict[str, dict[str, list[float]]] = {}
    for result in results:
        figures = values.setdefault(result["target"], {})
        flat = {f"start.{name}": result[name] for name in ("startup_s", "idle_resident_mb") if name in result}
        for scenario, outcome in result["loads"].items():
            flat |= {
                f"{scenario}.{name}": value for name, value in outcome.items() if isinstance(value, float)
            }
        for name, value in flat.items():
            figures.setdefault(name, []).append(value)
    return {
        target: {
            name: {"median": statistics.median(numbers), "least": min(numbers), "greatest": max(numbers)}
            for name, numbers in figures.items()
        }
        for target, figures in values.items()
    }


def ratios(summary: dict[str, dict[str, Json]]) -> dict[str, dict[str, float]]:
    """Each target's medians divided by the reference's (the real dev server on a file), where both exist."""
    reference = summary.get(REFERENCE, {})
    return {
        target: {
            name: figure["median"] / reference[name]["median"]
            for name, figure in figures.items()
            if name in reference and reference[name]["median"]
        }
        for target, figures in summary.items()
        if target != REFERENCE and reference
    }


def machine() -> Json:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def run_all(options: RunOptions, tell: Callable[[str], None]) -> Json:
    """Run every round, alternating the targets, and return the whole report."""
    results = []
    for number in range(1, options.rounds + 1):
        # Every other round goes backwards, so that no target always runs in another's wake.
        order = options.targets if number % 2 else tuple(reversed(options.targets))
        results += [run_round(target, number, options, tell) for target in order]
    summary, reasons = summarise(results), invalid_reasons(results, options)
    return {
        "machine": machine(),
        "options": asdict(options),
        "valid": not reasons,
        "invalid_reasons": reasons,
        "summary": summary,
        "ratios_to_reference": ratios(summary),
        "reference": REFERENCE,
        "rounds": results,
    }
