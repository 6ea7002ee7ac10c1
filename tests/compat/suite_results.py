"""Results of other people's test suites on both servers: condensed to a file each, shown in docs/compatibility.md.

python -m tests.compat.suite_results NAME --real A.json [B.json...] --perdure C.json [D.json...]

writes `tests/compat/results/NAME.json` from what `official_suite.py` or `features_suite.py` wrote; a later file's
outcome of a test replaces an earlier one's. Without `--real` the real server's outcomes stay what they were, and so do
the rows of files that were not run. Nothing is run here.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from tests.compat.suite_reasons import REASONS

RESULTS: Final = Path(__file__).resolve().with_name("results")
OUTCOMES: Final = ("passed", "failed", "skipped")
TARGETS: Final = ("real", "perdure")

ENDLESS: Final = "worker_shutdown/"
"""Features whose workflows go on until they are terminated at some moment: their histories cannot be equal."""

Outcomes = dict[str, dict[str, str]]
"""By file: outcome by test."""
Condensed = dict[str, dict[str, Any]]
"""By file: by server how many passed, failed and were skipped, and each test that did not pass on both."""


def outcomes_of(documents: list[Any]) -> Outcomes:
    """The outcomes in results of `official_suite.py`, later ones last."""
    found: Outcomes = {}
    for document in documents:
        for name, file in document["files"].items():
            if file["outcomes"]:
                found.setdefault(name, {}).update(file["outcomes"])
    return found


def condensed(real: Outcomes, ours: Outcomes) -> Condensed:
    """Counts, and the tests that did not pass on both servers; files that only one server ran are left out."""
    document: Condensed = {}
    for name in sorted(real.keys() & ours.keys()):
        found = (real[name], ours[name])
        counts = [Counter(each.values()) for each in found]
        tests = {
            test.partition("::")[2]: [each.get(test, "not run") for each in found]
            for test in sorted(real[name].keys() | ours[name].keys())
        }
        document[name] = {
            target: [count[outcome] for outcome in OUTCOMES]
            for target, count in zip(TARGETS, counts, strict=True)
        }
        document[name]["others"] = {
            test: pair
            for test, pair in tests.items()
            if "failed" in pair or "not run" in pair or pair[0] != pair[1]
        }
    return document


def renewed(before: Condensed, ours: Outcomes) -> Condensed:
    """Condensed results with new outcomes on our server: those of the real one are known from before.

    A test that is not listed in them ended there as here, and did not fail.
    """
    real: Outcomes = {}
    for name in before.keys() & ours.keys():
        others = before[name]["others"]
        real[name] = {
            test: others.get(test.partition("::")[2], (how, how))[0] for test, how in ours[name].items()
        }
        for test, how in ours[name].items():
            if how == "failed" and test.partition("::")[2] not in others:
                real[name][test] = "passed"
    return {**before, **condensed(real, {name: ours[name] for name in real})}


def load(name: str) -> Condensed:
    """The condensed results of a suite."""
    document: Condensed = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return document


def reason_of(suite: str, test: str, pair: list[str]) -> str:
    """Why a test does not pass on both servers.

    Raises:
        LookupError: a difference without a reason.
    """
    for reason in REASONS:
        if reason.suite == suite and fnmatchcase(test, reason.test):
            return reason.why
    raise LookupError(f"{suite}: {test} is {pair[0]} there and {pair[1]} here, and nothing says why")


def table(suite: str, results: Condensed) -> Iterator[str]:
    """The table by file, then what did not pass on both servers, by reason."""
    yield "| file | real server: passed, failed, skipped | Perdure: passed, failed, skipped |"
    yield "|---|---|---|"
    for name, file in results.items():
        cells = [", ".join(map(str, file[target])) for target in TARGETS]
        yield f"| {name.removeprefix('tests/')} | {cells[0]} | {cells[1]} |"
    sums = [
        ", ".join(str(sum(file[target][index] for file in results.values())) for index in range(3))
        for target in TARGETS
    ]
    yield f"| **all** | **{sums[0]}** | **{sums[1]}** |"
    by_reason: dict[str, list[str]] = {}
    for name, file in results.items():
        for test, pair in file["others"].items():
            full = f"{name.removeprefix('tests/')}::{test}"
            shown = pair[0] if pair[0] == pair[1] else f"{pair[0]} there, {pair[1]} here"
            by_reason.setdefault(reason_of(suite, full, pair), []).append(f"`{full}` ({shown})")
    yield ""
    yield "What does not pass on both:" if by_reason else "Everything passes on both."
    if by_reason:
        yield ""
    for reason, tests in sorted(by_reason.items()):
        yield f"- {reason}: {', '.join(tests)}"


def features_table(results: Mapping[str, Any]) -> Iterator[str]:
    """The table of features: outcomes, and whether their histories replay and are the real server's."""
    yield "| feature | real server | Perdure | histories |"
    yield "|---|---|---|---|"
    for name, row in results.items():
        yield f"| {name} | {row['real']} | {row['perdure']} | {row['histories']} |"
    counts = [sum(row[target] == "passed" for row in results.values()) for target in TARGETS]
    yield f"| **all {len(results)}** | **{counts[0]} passed** | **{counts[1]} passed** | |"


def condensed_features(runs: list[Any]) -> dict[str, Any]:
    """Rows of the table of features. Histories are the same if any two of the runs gave the same."""
    from tests.compat.features_suite import JobResult, history_difference

    rows: dict[str, Any] = {}
    for name in runs[0]["real"]:
        found = {
            target: [JobResult(**run[target][name]) for run in runs if name in run[target]]
            for target in TARGETS
        }
        differences = [history_difference(a, b) for a in found["real"] for b in found["perdure"]]
        if name.startswith(ENDLESS):
            histories = "cut off"
        else:
            histories = "the same" if "" in differences else min(differences, key=len)
        if any("replay" in problem for problem in found["perdure"][-1].problems):
            histories += ", do not replay"
        rows[name] = {target: found[target][-1].outcome for target in TARGETS} | {"histories": histories}
    return rows


def main() -> None:
    """Write the condensed results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="sdk, samples or features")
    parser.add_argument("--real", nargs="+", type=Path, default=[])
    parser.add_argument("--perdure", nargs="+", type=Path, default=[])
    parser.add_argument("--runs", nargs="+", type=Path, help="of features, each with both servers")
    given = parser.parse_args()
    read = {
        key: [json.loads(path.read_text(encoding="utf-8")) for path in getattr(given, key) or ()]
        for key in ("real", "perdure", "runs")
    }
    document: Any
    if read["runs"]:
        document = condensed_features(read["runs"])
    elif not read["real"]:
        document = renewed(load(given.name), outcomes_of(read["perdure"]))
    else:
        document = condensed(outcomes_of(read["real"]), outcomes_of(read["perdure"]))
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=1, sort_keys=True)
    (RESULTS / f"{given.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
