"""The SQL of a filter: parameters, placeholders, shape. What it answers is in test_agreement and test_real_server."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.visibility import (
    And,
    Attribute,
    AttributeType,
    Comparison,
    Node,
    Operator,
    Or,
    numbered_dollars,
    parse_query,
    to_sql,
)
from perdure.core.visibility.sql import prefix_end
from tests.unit.visibility.real_server import CUSTOM_ATTRIBUTES
from tests.unit.visibility.strategies import nodes

ATTACK = "x' OR 1=1 --"


def column(name: str) -> str:
    return f"[{name}]"


def member(attribute: str, values: object, bind: object, /) -> str:
    placeholders = ",".join(bind(value) for value in values)  # type: ignore[operator, attr-defined]
    return f"has({attribute}, {placeholders})"


@pytest.mark.parametrize(
    ("text", "condition", "parameters"),
    [
        ("Num = 1", "[Num] = ?", [1]),
        ("Num != 1", "[Num] <> ?", [1]),
        ("Num IN (1, 2)", "[Num] IN (?, ?)", [1, 2]),
        ("Num NOT IN (1)", "NOT ([Num] IN (?))", [1]),
        ("Num BETWEEN 1 AND 2", "([Num] BETWEEN ? AND ?)", [1, 2]),
        ("Num IS NULL", "[Num] IS NULL", []),
        ("Kw STARTS_WITH 'ab'", "([Kw] >= ? AND [Kw] < ?)", ["ab", "ac"]),
        ("Kw STARTS_WITH ''", "[Kw] >= ?", [""]),
        ("Tags = 'a'", "has(Tags, ?)", ["a"]),
        ("Txt = 'Red blue'", "has(Txt, ?,?)", ["red", "blue"]),
        ("Txt = '!'", "1 = 0", []),
        ("Num=1 AND Num=2 OR Num=3", "(([Num] = ? AND [Num] = ?) OR [Num] = ?)", [1, 2, 3]),
    ],
)
def test_translation(text: str, condition: str, parameters: list[object]) -> None:
    node = parse_query(text, CUSTOM_ATTRIBUTES).where
    assert node is not None
    assert to_sql(node, column, membership=member) == (condition, parameters)


def test_numbered_placeholders_follow_the_order_of_the_parameters() -> None:
    node = parse_query("Num=10 AND Tags IN ('a','b') AND Kw STARTS_WITH 'x'", CUSTOM_ATTRIBUTES).where
    assert node is not None
    condition, parameters = to_sql(
        node, column, membership=member, placeholder=numbered_dollars, first_parameter=3
    )
    assert condition == "([Num] = $3 AND (has(Tags, $4,$5) AND ([Kw] >= $6 AND [Kw] < $7)))"
    assert parameters == [10, "a", "b", "x", "y"]


@given(nodes)
def test_every_placeholder_has_its_parameter(node: Node) -> None:
    condition, parameters = to_sql(node, column, membership=member, placeholder=lambda number: f"<{number}>")
    positions = [condition.index(f"<{number}>") for number in range(1, len(parameters) + 1)]
    assert positions == sorted(positions)
    assert f"<{len(parameters) + 1}>" not in condition


@pytest.mark.parametrize(
    "text", ["Kw = {}", "Kw IN ({})", "Kw STARTS_WITH {}", "Tags = {}", "Kw BETWEEN {} AND {}"]
)
def test_values_never_stand_in_the_sql(text: str) -> None:
    node = parse_query(text.replace("{}", f'"{ATTACK}"'), CUSTOM_ATTRIBUTES).where
    assert node is not None
    condition, parameters = to_sql(node, column, membership=member)
    assert "OR 1=1" not in condition
    assert ATTACK in parameters


@pytest.mark.parametrize("kind", [And, Or])
def test_a_long_chain_stays_within_sqlites_limit_on_depth(kind: type[And] | type[Or]) -> None:
    one = Comparison(Attribute("number", AttributeType.INT), Operator.EQUAL, 1)
    condition, parameters = to_sql(kind((one,) * 5000), lambda name: name)
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE runs (number INTEGER)")
    database.execute("INSERT INTO runs VALUES (1), (2)")
    assert database.execute(f"SELECT number FROM runs WHERE {condition}", parameters).fetchall() == [(1,)]
    database.close()


storable_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(prefix=storable_text, text=storable_text)
def test_prefix_end_bounds_exactly_the_texts_with_the_prefix(prefix: str, text: str) -> None:
    end = prefix_end(prefix)
    for candidate in (text, prefix + text):
        within = candidate >= prefix and (end is None or candidate < end)
        assert within == candidate.startswith(prefix)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", None),
        ("a", "b"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("\ud7ff", "\ue000"),
        ("\uffff", "\U00010000"),
    ],
)
def test_prefix_end_steps_over_what_is_no_character(prefix: str, end: str | None) -> None:
    assert prefix_end(prefix) == end
