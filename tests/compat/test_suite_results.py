"""Results of other projects' suites: how runs become a table, and that every difference has a reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat import suite_reasons, suite_results
from tests.compat.features_suite import JobResult, history_difference
from tests.compat.suite_results import condensed, outcomes_of, reason_of, table


def run_of(**tests: str) -> Any:
    """What `official_suite.py` writes of one file."""
    return {
        "files": {
            "tests/a_test.py": {
                "outcomes": {f"tests/a_test.py::{name}": each for name, each in tests.items()}
            }
        }
    }


def test_a_later_run_replaces_what_an_earlier_one_found() -> None:
    """A test that was disturbed is run again, and its file is not."""
    found = outcomes_of([run_of(one="failed", two="passed"), run_of(one="passed"), {"files": {}}])
    assert found == {"tests/a_test.py": {"tests/a_test.py::one": "passed", "tests/a_test.py::two": "passed"}}


def test_what_does_not_pass_on_both_is_listed_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts by server, then each test that failed anywhere or differs; a skip on both is none."""
    real = outcomes_of([run_of(same="passed", lost="passed", both="failed", off="skipped")])
    ours = outcomes_of([run_of(same="passed", lost="failed", both="failed", off="skipped")])
    results = condensed(real, ours)
    assert results["tests/a_test.py"] == {
        "real": [2, 1, 1],
        "perdure": [1, 2, 1],
        "others": {"lost": ["passed", "failed"], "both": ["failed", "failed"]},
    }
    reason = suite_reasons.Reason("sdk", "a_test.py::*", "because")
    monkeypatch.setattr(suite_results, "REASONS", (reason,))
    assert "\n".join(table("sdk", results)).endswith(
        "- because: `a_test.py::both` (failed), `a_test.py::lost` (passed there, failed here)"
    )


def test_the_real_servers_outcomes_stay_where_only_ours_are_new() -> None:
    """A test that passed before and fails now is a difference; a file that was not run stays as it was."""
    before = condensed(
        outcomes_of([run_of(one="passed", odd="failed", off="skipped")]),
        outcomes_of([run_of(one="passed", odd="passed", off="skipped")]),
    )
    before["tests/other_test.py"] = {"real": [1, 0, 0], "perdure": [1, 0, 0], "others": {}}
    now = suite_results.renewed(before, outcomes_of([run_of(one="failed", odd="passed", off="skipped")]))
    assert now["tests/a_test.py"] == {
        "real": [1, 1, 1],
        "perdure": [1, 1, 1],
        "others": {"odd": ["failed", "passed"], "one": ["passed", "failed"]},
    }
    assert now["tests/other_test.py"] == before["tests/other_test.py"]


def test_a_difference_without_a_reason_is_an_error() -> None:
    """Nobody can write results with a new difference and not say why it is there."""
    with pytest.raises(LookupError, match="nothing says why"):
        reason_of("sdk", "test_new.py::test_new", ["passed", "failed"])


@pytest.mark.parametrize("suite", sorted(path.stem for path in suite_results.RESULTS.glob("*.json")))
def test_every_reason_is_needed(suite: str) -> None:
    """A reason that no result needs any more is taken out."""
    if suite == "features":
        return
    tests = [
        f"{file.removeprefix('tests/')}::{test}"
        for file, each in suite_results.load(suite).items()
        for test in each["others"]
    ]
    for reason in suite_reasons.REASONS:
        if reason.suite == suite:
            needed = [test for test in tests if reason_of(suite, test, ["", ""]) == reason.why]
            assert needed, reason


def test_histories_are_compared_without_what_every_run_has_of_its_own() -> None:
    """Ids and times differ from run to run; the order of events and their other fields do not."""

    def result(attempt: int, *types: str) -> JobResult:
        events = [
            {
                "eventId": str(n),
                "eventTime": f"{attempt}{n}",
                "eventType": each,
                "x": {"attempt": 1, "identity": f"{attempt}"},
            }
            for n, each in enumerate(types)
        ]
        return JobResult(outcome="passed", histories=[{"type": "W", "events": events}])

    assert history_difference(result(1, "A", "B"), result(2, "A", "B")) == ""
    assert history_difference(result(1, "A", "B"), result(2, "A", "C")) == "W: event 2 is B there, C here"
    assert history_difference(result(1, "A", "B"), result(2, "A")) == "W: event 2 is B there, the end here"
    changed = result(2, "A")
    changed.histories[0]["events"][0]["x"]["attempt"] = 2
    assert history_difference(result(1, "A"), changed) == "W: event 1: x.attempt"
    assert history_difference(result(1, "A"), JobResult()) == "1 runs there, 0 here"
