"""`python -m benchmarks`: measure, compare, profile. `make bench` runs it without arguments."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from benchmarks import profiling, report
from benchmarks.applications import compare
from benchmarks.features import FEATURES, TARGET_NAMES, run_features
from benchmarks.rounds import RunOptions, run_all
from benchmarks.schedules import run_schedules
from benchmarks.targets import DEFAULT_TARGETS, TARGETS

RESULTS = Path(__file__).parent / "results"
console = Console(width=None if sys.stdout.isatty() else 160)


def tell(line: str) -> None:
    """Show progress."""
    console.print(line, highlight=False)


@click.group(invoke_without_command=True)
@click.option(
    "--targets",
    default=",".join(DEFAULT_TARGETS),
    show_default=True,
    help=f"Comma-separated: {', '.join(TARGETS)}.",
)
@click.option("--rounds", default=3, show_default=True, help="Rounds; targets alternate within each.")
@click.option("--seconds", default=5.0, show_default=True, help="Length of each measured window.")
@click.option(
    "--warmup", "warmup_s", default=2.0, show_default=True, help="Seconds of load before each window."
)
@click.option("--concurrency", default=50, show_default=True, help="Workflows in flight.")
@click.option("--only", type=click.Choice(["raw", "sdk"]), help="Run only this load.")
@click.option(
    "--eager-activity", is_flag=True, help="Raw load: ask for the activity in the completion's reply."
)
@click.option("--no-sticky", is_flag=True, help="Raw load: a worker without a sticky queue.")
@click.option(
    "--floor", default=20, show_default=True, help="Fewer workflows in a window make the run invalid."
)
@click.option("--quick", is_flag=True, help="One short round, to see that everything works.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=RESULTS / "last.json", help="Where the JSON goes."
)
@click.pass_context
def main(
    context: click.Context,
    targets: str,
    rounds: int,
    seconds: float,
    warmup_s: float,
    concurrency: int,
    only: str | None,
    eager_activity: bool,
    no_sticky: bool,
    floor: int,
    quick: bool,
    output: Path,
) -> None:
    """Measure Perdure and the real dev server under the same loads; print a table and write JSON."""
    names = tuple(name.strip() for name in targets.split(",") if name.strip())
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        raise click.BadParameter(
            f"unknown: {', '.join(unknown)}; known: {', '.join(TARGETS)}", param_hint="--targets"
        )
    options = RunOptions(
        names, rounds, seconds, warmup_s, concurrency, only, eager_activity, not no_sticky, floor
    )
    if quick:
        options = replace(
            options, rounds=1, seconds=min(seconds, 2.0), warmup_s=min(warmup_s, 1.0), floor=min(floor, 5)
        )
    context.obj = options
    if context.invoked_subcommand is not None:
        return
    result = run_all(options, tell)
    result["goals"] = report.goals(result)
    report.write(result, output)
    report.show(result, console)
    console.print(f"written to {output}")
    sys.exit(0 if result["valid"] else 1)


@main.command()
@click.option("--target", type=click.Choice(list(TARGETS)), default="perdure-file", show_default=True)
@click.option("--rate", default=500, show_default=True, help="Samples per second.")
@click.option("--native", is_flag=True, help="Also stacks of C code (grpc, sqlite, protobuf).")
@click.option(
    "--output", type=click.Path(path_type=Path), default=RESULTS / "profile.txt", help="Collapsed stacks."
)
@click.pass_obj
def profile(options: RunOptions, target: str, rate: int, native: bool, output: Path) -> None:
    """Record where the server spends its time under the raw load; print the costliest functions."""
    outcome = profiling.record(target, options, output, rate, native)
    profiling.show(profiling.read_collapsed(output.read_text()), console)
    rate, cpu_ms = outcome["workflows_per_s"], outcome["server_cpu_ms_per_workflow"]
    console.print(f"{rate:.0f} wf/s, {cpu_ms:.2f} ms server CPU per workflow, errors {outcome['errors']}")
    console.print(f"stacks in {output} (collapsed; speedscope opens it)")


@main.command()
@click.option("--closed", default=200_000, show_default=True, help="Closed runs in the large database.")
@click.option("--open", "opened", default=20_000, show_default=True, help="Open runs in the large database.")
@click.option(
    "--database", type=click.Path(path_type=Path), help="Keep the large database here, and use it again."
)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "size.json", help="The JSON.")
@click.pass_obj
def size(options: RunOptions, closed: int, opened: int, database: Path | None, output: Path) -> None:
    """Compare throughput on a large database with an empty one."""
    # Only here: everything else measures from outside and works without the store's code.
    from benchmarks.seed import seed
    from benchmarks.size import run_size

    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as scratch:
        path = database or Path(scratch) / "large.db"
        if not path.exists():
            seed(path, closed, opened, tell)
        result = run_size(path, {"closed": closed, "open": opened}, replace(options, only="raw"), tell)
    report.write(result, output)
    report.show_size(result, console)
    sys.exit(0 if result["valid"] else 1)


@main.command()
@click.option("--count", default=10_000, show_default=True, help="Schedules; each acts once a minute.")
@click.option("--minutes", default=2, show_default=True, help="How long they act.")
@click.option("--way", type=click.Choice(["spread", "together", "both"]), default="both", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "schedules.json")
def schedules(count: int, minutes: int, way: str, output: Path) -> None:
    """Measure how late schedules start their workflows: spread over the minute, and all at one second."""
    ways = {"spread": [False], "together": [True], "both": [False, True]}[way]
    result = run_schedules(count, minutes, ways, tell)
    report.write(result, output)
    for reason in result["invalid_reasons"]:
        tell(f"INVALID {reason}")
    sys.exit(0 if result["valid"] else 1)


@main.command()
@click.option(
    "--feature", "wanted", multiple=True, type=click.Choice(list(FEATURES)), help="All when absent."
)
@click.option("--servers", default=",".join(TARGET_NAMES), show_default=True, help="Comma-separated.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "features.json")
@click.pass_obj
def features(options: RunOptions, wanted: tuple[str, ...], servers: str, output: Path) -> None:
    """Measure a fan-out of 100 activities, signals to 1,000 waiting workflows, and round trips of updates."""
    result = run_features(list(wanted or FEATURES), servers.split(","), options.rounds, tell)
    report.write(result, output)
    for reason in result["invalid_reasons"]:
        tell(f"INVALID {reason}")
    sys.exit(0 if result["valid"] else 1)


@main.command()
@click.option("--systems", default="", help="Comma-separated names; all that are installed when empty.")
@click.option(
    "--peers", default=sys.executable, help="Python of the environment that has dbos, restate-sdk, granian."
)
@click.option("--restate-server", default="restate-server", help="Restate's server program.")
@click.option("--workload", "wanted", multiple=True, type=click.Choice(list(compare.WORKLOADS)))
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "applications.json")
@click.pass_obj
def applications(
    options: RunOptions, systems: str, peers: str, restate_server: str, wanted: tuple[str, ...], output: Path
) -> None:
    """Compare the same application on Perdure, the official SDK, DBOS and Restate."""
    found, missing = compare.systems(peers, restate_server)
    for reason in missing:
        tell(f"not measured: {reason}")
    names = [name for name in systems.split(",") if name] or list(found)
    if unknown := [name for name in names if name not in found]:
        raise click.BadParameter(f"unknown or not installed: {', '.join(unknown)}", param_hint="--systems")
    chosen = {name: found[name] for name in names}
    workloads = {name: compare.WORKLOADS[name] for name in wanted or compare.WORKLOADS}
    results = compare.compare(chosen, workloads, options.rounds, options.seconds, options.warmup_s, tell)
    report.write({"applications": results}, output)
    console.print(compare.table(results, chosen))
    console.print(f"written to {output}")
    sys.exit(1 if any(result["errors"] for result in results) else 0)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
