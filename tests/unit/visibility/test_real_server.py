"""Queries that were given to Temporal's server: we must list the same workflows and refuse the same queries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility import matches, parse_query
from tests.unit.visibility.real_server import CUSTOM_ATTRIBUTES, REASONS, RECORDS, ROWS, Row
from tests.unit.visibility.sqlite_runs import Runs


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    database = Runs(RECORDS, texts=("Txt",))
    yield database
    database.close()


def in_memory(text: str) -> str:
    """The workflows a query lists, or why it is refused."""
    try:
        query = parse_query(text, CUSTOM_ATTRIBUTES)
    except InvalidArgumentError as error:
        return str(error)
    return "".join(str(record["WorkflowId"]) for record in RECORDS if matches(query.filter, record))


def expected(row: Row) -> str:
    """What we should answer: what the real server did, unless we differ on purpose."""
    answers = [answer for answer in (row.ours, row.ids, row.error) if answer is not None]
    return answers[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.query or "(nothing)")
def test_answers_like_the_real_server_or_for_a_stated_reason(row: Row) -> None:
    assert in_memory(row.query) == expected(row)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "invalid query" not in expected(row)], ids=lambda row: row.query
)
def test_sql_gives_the_same_workflows(row: Row, runs: Runs) -> None:
    query = parse_query(row.query, CUSTOM_ATTRIBUTES)
    assert "".join(str(RECORDS[number]["WorkflowId"]) for number in runs.select(query.filter)) == expected(
        row
    )


def test_every_difference_has_a_reason() -> None:
    differing = [row for row in ROWS if row.ours is not None]
    assert all(row.why in REASONS for row in differing)
    assert {row.why for row in differing} == set(REASONS)
