"""`python -m tests.differential`: run scenarios by hand, print what a server did or how two servers differ."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from fnmatch import fnmatchcase

from tests.differential.compare import differences, render, unified
from tests.differential.known_differences import unexpected
from tests.differential.registry import Scenario, all_scenarios
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


async def _main(options: argparse.Namespace) -> int:
    scenarios = _chosen(options.only)
    if options.list:
        for scenario in scenarios:
            print(f"{scenario.name}: {scenario.purpose}")
        return 0
    targets = TARGETS[options.target]
    async with AsyncExitStack() as stack:
        addresses = [await _address(target, options, stack) for target in targets]
        results = await run_on_each(scenarios, addresses, concurrency=options.concurrency)
    problems = 0
    for target, outcomes in zip(targets, results, strict=True):
        slowest = sorted(outcomes, key=lambda name: -outcomes[name].seconds)[:5]
        timing = ", ".join(f"{name} {outcomes[name].seconds:.1f}" for name in slowest)
        print(f"# {target}: slowest {timing}", file=sys.stderr)
        if options.show:
            _show(outcomes)
        problems += _report_broken(target, outcomes)
    if len(results) == 2:
        problems += _compare(results[0], results[1], options.diff)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_arguments())))
