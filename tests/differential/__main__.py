"""`python -m tests.differential`: run scenarios by hand, print what a server did or how two servers differ.

`--repeat 8 --target real` runs everything eight times and prints where the server disagreed with itself; `--busy 2`
does so on a machine that is busy with something else. Nothing is asked again here (see `reference`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from fnmatch import fnmatchcase

from tests.differential.compare import differences, render, unified
from tests.differential.known_differences import unexpected, unused
from tests.differential.registry import Scenario, all_scenarios
from tests.differential.repeating import busy_machine, disagreements, longest, shown
from tests.differential.runner import (
    BROKEN_OFF,
    CONCURRENCY,
    DYNAMIC_CONFIG,
    SEARCH_ATTRIBUTES,
    Outcome,
    run_on_each,
)
from tests.support.servers import PerdureServer, RealServer

TARGETS = {
    "real": ("real",),
    "perdure": ("perdure",),
    "both": ("real", "perdure"),
    "twice": ("real", "again"),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="scenario name or glob; repeatable")
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default="both",
        help="which server to run against; 'twice' compares the real one with itself",
    )
    parser.add_argument("--show", action="store_true", help="print everything recorded")
    parser.add_argument("--diff", action="store_true", help="print a unified diff instead of the paths")
    parser.add_argument("--list", action="store_true", help="list the scenarios and stop")
    parser.add_argument("--real-address", metavar="HOST:PORT", help="use this running server as the real one")
    parser.add_argument("--perdure-address", metavar="HOST:PORT", help="use this running server as ours")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY)
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="N rounds; what differs between them is printed at the end",
    )
    parser.add_argument(
        "--busy", type=int, default=0, metavar="N", help="N processes that only use up a core each"
    )
    return parser.parse_args()


def _chosen(only: Sequence[str] | None) -> list[Scenario]:
    return [
        scenario
        for scenario in all_scenarios()
        if not only or any(fnmatchcase(scenario.name, pattern) for pattern in only)
    ]


async def _address(target: str, options: argparse.Namespace, stack: AsyncExitStack) -> str:
    given: str | None = options.perdure_address if target == "perdure" else options.real_address
    if given:
        return given
    server_type = PerdureServer if target == "perdure" else RealServer
    server = server_type(dynamic_config=DYNAMIC_CONFIG, search_attributes=SEARCH_ATTRIBUTES)
    await stack.enter_async_context(server)
    print(f"# {target}: {server.address}, log {server.log_path}", file=sys.stderr)
    return server.address


def _show(outcomes: Mapping[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        print(f"\n# {name} ({outcome.seconds:.1f} s)\n{render(outcome.records)}")


def _report_broken(target: str, outcomes: Mapping[str, Outcome]) -> int:
    broken = 0
    for name, outcome in outcomes.items():
        for record in outcome.records:
            if record.label == BROKEN_OFF:
                broken += 1
                print(f"BROKE OFF on {target}: {name}: {record.data}")
    return broken


def _compare(left: Mapping[str, Outcome], right: Mapping[str, Outcome], as_diff: bool) -> int:
    failed = 0
    for name, outcome in left.items():
        found = differences(outcome.records, right[name].records)
        remaining = unexpected(name, found)
        if not remaining:
            continue
        failed += 1
        print(f"\n# {name}: {len(remaining)} differences, {len(found) - len(remaining)} known")
        print(unified(outcome.records, right[name].records) if as_diff else "\n".join(map(str, remaining)))
    print(f"\n{len(left)} scenarios, {failed} with unexpected differences")
    return failed


def _report_unused(left: Mapping[str, Outcome], right: Mapping[str, Outcome]) -> None:
    every = [(name, one) for name in left for one in differences(left[name].records, right[name].records)]
    for entry in unused(every):
        print(f"# known, not found: {entry.scenario}: {entry.path}")


async def _round(scenarios: Sequence[Scenario], options: argparse.Namespace) -> list[Mapping[str, Outcome]]:
    """Start the servers, run every scenario on each, stop them; one result for each target."""
    async with AsyncExitStack() as stack:
        addresses = [await _address(target, options, stack) for target in TARGETS[options.target]]
        return await run_on_each(scenarios, addresses, concurrency=options.concurrency)


def _report(results: Sequence[Mapping[str, Outcome]], options: argparse.Namespace) -> int:
    problems = 0
    for target, outcomes in zip(TARGETS[options.target], results, strict=True):
        slowest = ", ".join(f"{name} {seconds:.1f}" for name, seconds in longest([outcomes])[:5])
        print(f"# {target}: slowest {slowest}", file=sys.stderr)
        if options.show:
            _show(outcomes)
        problems += _report_broken(target, outcomes)
    if len(results) == 2:
        problems += _compare(results[0], results[1], options.diff)
        if not options.only:
            _report_unused(results[0], results[1])
    return problems


def _report_rounds(rounds: Sequence[Sequence[Mapping[str, Outcome]]], options: argparse.Namespace) -> int:
    problems = 0
    for index, target in enumerate(TARGETS[options.target]):
        of_target = [results[index] for results in rounds]
        found = disagreements(of_target)
        problems += len(found)
        print(f"\n# {target}: {len(found)} places that differ between {len(of_target)} rounds")
        print(shown(found))
        print("# longest: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in longest(of_target)[:12]))
    return problems


async def _main(options: argparse.Namespace) -> int:
    scenarios = _chosen(options.only)
    if options.list:
        for scenario in scenarios:
            print(f"{scenario.name}: {scenario.purpose}")
        return 0
    problems = 0
    rounds: list[list[Mapping[str, Outcome]]] = []
    with busy_machine(options.busy):
        for _ in range(options.repeat):
            rounds.append(await _round(scenarios, options))
            problems += _report(rounds[-1], options)
    if options.repeat > 1:
        problems += _report_rounds(rounds, options)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_arguments())))
