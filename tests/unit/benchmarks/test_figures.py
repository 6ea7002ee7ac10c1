"""What is made of measurements: percentiles, medians, ratios, and when a run must not be used."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest

from benchmarks import report
from benchmarks.measure import Window, percentile
from benchmarks.procstat import descendants, tree_usage, usage
from benchmarks.profiling import read_collapsed
from benchmarks.rounds import RunOptions, invalid_reasons, ratios, run_all, summarise

OPTIONS = RunOptions(targets=("perdure-file", "temporal-file"))


def result(target: str, rate: float, number: int = 1, **changes: Any) -> dict[str, Any]:
    """One round's result with one load."""
    outcome = {"workflows_per_s": rate, "completed": 100, "errors": 0, "error_samples": []} | changes
    return {"round": number, "target": target, "startup_s": 0.5, "loads": {"raw": outcome}}


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (99, 4.0), (100, 4.0), (1, 1.0)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], percent) == expected


def test_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 50))


def test_a_window_counts_only_what_ends_while_it_is_open() -> None:
    window = Window("raw", 1, os.getpid())
    window.completed(0.0)
    window.open()
    window.completed(0.0)
    outcome = window.close()
    window.completed(0.0)
    assert outcome.completed == len(window.latencies_s) == 1


def test_errors_outside_the_window_count_too() -> None:
    window = Window("raw", 1, None)
    window.error("early")
    window.open()
    assert window.close().errors == 1


def test_medians_and_ratios() -> None:
    results = [result("perdure-file", rate, number) for number, rate in enumerate((100.0, 900.0, 300.0))]
    results += [result("temporal-file", 30.0)]
    summary = summarise(results)
    figure = summary["perdure-file"]["raw.workflows_per_s"]
    assert figure == {"median": 300.0, "least": 100.0, "greatest": 900.0}
    assert ratios(summary)["perdure-file"]["raw.workflows_per_s"] == 10.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"errors": 2, "error_samples": ["poll: broken"]}, "2 errors, e.g. poll: broken"),
        ({"completed": 3}, "only 3 workflows, floor 20"),
    ],
)
def test_errors_and_too_few_workflows_make_a_run_invalid(changes: dict[str, Any], reason: str) -> None:
    assert invalid_reasons([result("perdure-file", 1.0)], OPTIONS) == []
    (found,) = invalid_reasons([result("perdure-file", 1.0, **changes)], OPTIONS)
    assert found.endswith(reason)


def test_a_server_that_does_not_start_makes_a_run_invalid() -> None:
    failed = {"round": 1, "target": "perdure-file", "loads": {}, "failure": "ended with code 1\nlog"}
    assert invalid_reasons([failed], OPTIONS) == ["round 1 perdure-file: ended with code 1"]


def test_goals_are_judged_by_their_direction() -> None:
    summary = summarise([result("perdure-file", 300.0), result("temporal-file", 30.0)])
    judged = {
        goal["goal"]: goal["met"]
        for goal in report.goals({"summary": summary, "ratios_to_reference": ratios(summary)})
    }
    assert judged == {
        "workflows/s against the real dev server on a file (raw)": True,
        "start to first accepted request, s": True,
    }


def test_the_noise_of_other_processes_is_found() -> None:
    results = [
        result("perdure-file", 1.0, others_busy_percent=3.0),
        result("stub", 1.0, others_busy_percent=40.0),
    ]
    assert report.others_busy_percent({"summary": summarise(results)}) == 40.0
    assert report.others_busy_percent({"summary": {}}) == 0.0


def test_an_empty_run_reports_nothing_rather_than_failing() -> None:
    empty = run_all(RunOptions(targets=(), rounds=1), tell=lambda line: None)
    assert empty["summary"] == {}
    assert empty["valid"]


def test_stacks_are_counted_by_function_not_by_line() -> None:
    stacks = "main (a.py:1);work (b.py:10) 3\nmain (a.py:2);work (b.py:12) 2\nmain (a.py:9) 1\n"
    profile = read_collapsed(stacks)
    assert profile.samples == 6
    assert profile.own == {"work (b.py)": 5, "main (a.py)": 1}
    assert profile.inclusive == {"work (b.py)": 5, "main (a.py)": 6}


def test_samples_are_attributed_to_the_innermost_part_of_perdure() -> None:
    stacks = (
        "run (asyncio/base_events.py:1);serve (perdure/server/service/service.py:3);dumps (json/encoder.py:9) 4\n"
        "run (asyncio/base_events.py:1);serve (perdure/server/service/service.py:3);put (perdure/store/x.py:1) 3\n"
        "run (asyncio/base_events.py:1) 2\n"
    )
    parts = read_collapsed(stacks).parts
    assert parts == {"perdure/server/service": 4, "perdure/store": 3, "event loop and threads": 2}


def test_usage_of_this_process() -> None:
    own = usage(os.getpid())
    assert own.cpu_s > 0
    assert 5 < own.resident_mb < 10_000
    assert os.getpid() in descendants(os.getpid())
    assert tree_usage(os.getpid()).resident_mb >= own.resident_mb * 0.9
