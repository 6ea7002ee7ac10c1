"""From text to tree: shapes, typed values, clauses, names, limits and refusals."""

from __future__ import annotations

import inspect
import sys

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility import (
    MAX_NESTING,
    MAX_QUERY_CHARS,
    And,
    Attribute,
    AttributeType,
    Between,
    Comparison,
    ContainsAny,
    InList,
    IsNull,
    Node,
    Not,
    Operator,
    Or,
    OrderBy,
    Query,
    QueryCache,
    StartsWith,
    parse_query,
)
from perdure.core.visibility.values import INT64_MAX, INT64_MIN
from tests.unit.visibility.real_server import CUSTOM_ATTRIBUTES

KW = Attribute("Kw", AttributeType.KEYWORD)
NUM = Attribute("Num", AttributeType.INT)
DBL = Attribute("Dbl", AttributeType.DOUBLE)
FLAG = Attribute("Flag", AttributeType.BOOL)
WHEN = Attribute("When", AttributeType.DATETIME)
TXT = Attribute("Txt", AttributeType.TEXT)
TAGS = Attribute("Tags", AttributeType.KEYWORD_LIST)
STATUS = Attribute("ExecutionStatus", AttributeType.KEYWORD)
DURATION = Attribute("ExecutionDuration", AttributeType.INT)
WORKFLOW_ID = Attribute("WorkflowId", AttributeType.KEYWORD)
DIVISION = Attribute("TemporalNamespaceDivision", AttributeType.KEYWORD)

ONE = Comparison(NUM, Operator.EQUAL, 1)
TWO = Comparison(NUM, Operator.EQUAL, 2)
THREE = Comparison(NUM, Operator.EQUAL, 3)
NEVER = Between(NUM, 1, 0)


def where(text: str) -> Node | None:
    return parse_query(text, CUSTOM_ATTRIBUTES).where


def refusal(text: str) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_query(text, CUSTOM_ATTRIBUTES)
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "  \t\r\n", ";", " ;; ", "-- nothing", "/* nothing */"])
def test_a_text_that_says_nothing_is_every_run(text: str) -> None:
    assert where(text) is None


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("Kw = 'a'", Comparison(KW, Operator.EQUAL, "a")),
        ("Kw != 'a'", Comparison(KW, Operator.NOT_EQUAL, "a")),
        ("Kw <> 'a'", Comparison(KW, Operator.NOT_EQUAL, "a")),
        ("Kw < 'a'", Comparison(KW, Operator.LESS, "a")),
        ("Kw <= 'a'", Comparison(KW, Operator.LESS_OR_EQUAL, "a")),
        ("Kw > 'a'", Comparison(KW, Operator.GREATER, "a")),
        ("Kw >= 'a'", Comparison(KW, Operator.GREATER_OR_EQUAL, "a")),
        ("Kw IN ('a', 'b', 'a')", InList(KW, ("a", "b"))),
        ("Kw NOT IN ('a')", Not(InList(KW, ("a",)))),
        ("Kw BETWEEN 'a' AND 'b'", Between(KW, "a", "b")),
        ("Kw NOT BETWEEN 'a' AND 'b'", Not(Between(KW, "a", "b"))),
        ("Kw IS NULL", IsNull(KW)),
        ("Kw IS NOT NULL", Not(IsNull(KW))),
        ("Kw STARTS_WITH 'a'", StartsWith(KW, "a")),
        ("Kw NOT starts_with 'a'", Not(StartsWith(KW, "a"))),
        ("NOT Kw = 'a'", Not(Comparison(KW, Operator.EQUAL, "a"))),
        ("NOT NOT Kw = 'a'", Comparison(KW, Operator.EQUAL, "a")),
        ("NOT Kw NOT IN ('a')", InList(KW, ("a",))),
        ("Num=1 AND Num=2 AND Num=3", And((ONE, TWO, THREE))),
        ("Num=1 AND (Num=2 AND Num=3)", And((ONE, TWO, THREE))),
        ("Num=1 OR (Num=2 OR Num=3)", Or((ONE, TWO, THREE))),
        ("Num=1 OR Num=2 AND Num=3", Or((ONE, And((TWO, THREE))))),
        ("(Num=1 OR Num=2) AND Num=3", And((Or((ONE, TWO)), THREE))),
        ("NOT Num=1 AND Num=2", And((Not(ONE), TWO))),
        ("NOT (Num=1 AND Num=2)", Not(And((ONE, TWO)))),
        ("Num=1 && Num=2 || Num=3", Or((And((ONE, TWO)), THREE))),
        ("Num=1; ", ONE),
        ("Num/*x*/=1 -- y", ONE),
        ("Num=1 # y", ONE),
    ],
)
def test_structure(text: str, node: Node) -> None:
    assert where(text) == node


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("Dbl = 1", Comparison(DBL, Operator.EQUAL, 1.0)),
        ("Dbl = -1.5", Comparison(DBL, Operator.EQUAL, -1.5)),
        ("Dbl = -.5", Comparison(DBL, Operator.EQUAL, -0.5)),
        ("Flag = TRUE", Comparison(FLAG, Operator.EQUAL, True)),
        ("Flag IN (false)", InList(FLAG, (False,))),
        ("When = '1970-01-01T00:00:01Z'", Comparison(WHEN, Operator.EQUAL, 1_000_000_000)),
        ("When = 5", Comparison(WHEN, Operator.EQUAL, 5)),
        ("ExecutionStatus = 'TimedOut'", Comparison(STATUS, Operator.EQUAL, 7)),
        ("ExecutionStatus IN ('Running', 2)", InList(STATUS, (1, 2))),
        ("ExecutionDuration > '1h'", Comparison(DURATION, Operator.GREATER, 3_600_000_000_000)),
        ("ExecutionDuration BETWEEN 1 AND '1us'", Between(DURATION, 1, 1000)),
        ("Num = -9223372036854775808", Comparison(NUM, Operator.EQUAL, INT64_MIN)),
    ],
)
def test_values_have_the_type_of_their_attribute(text: str, node: Node) -> None:
    parsed = where(text)
    assert parsed == node
    if isinstance(parsed, Comparison) and isinstance(node, Comparison):
        assert type(parsed.value) is type(node.value)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("Num = 1.0", Between(NUM, 1, 1)),
        ("Num = 1.5", NEVER),
        ("Num != 1.5", Not(NEVER)),
        ("Num > 1.5", Between(NUM, 2, INT64_MAX)),
        ("Num > 1.0", Between(NUM, 2, INT64_MAX)),
        ("Num >= 1.5", Between(NUM, 2, INT64_MAX)),
        ("Num < 1.5", Between(NUM, INT64_MIN, 1)),
        ("Num < 1.0", Between(NUM, INT64_MIN, 0)),
        ("Num <= -1.5", Between(NUM, INT64_MIN, -2)),
        ("Num > 1e30", NEVER),
        ("Num < 1e30", Between(NUM, INT64_MIN, INT64_MAX)),
        ("Num = 9223372036854775808", NEVER),
        ("Num BETWEEN 0.5 AND 2.5", Between(NUM, 1, 2)),
        ("Num BETWEEN 0.5 AND 0.6", NEVER),
        ("Num BETWEEN -1e30 AND 9223372036854775807", Between(NUM, INT64_MIN, INT64_MAX)),
        ("Num BETWEEN 3 AND 2", NEVER),
        ("Num IN (1.0, 1.5, 2, 1e30)", InList(NUM, (1, 2))),
        ("Num IN (1.5)", NEVER),
    ],
)
def test_fractions_and_large_numbers_become_bounds_that_integers_have(text: str, node: Node) -> None:
    assert where(text) == node


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("Tags = 'a b'", ContainsAny(TAGS, ("a b",))),
        ("Tags != 'a'", Not(ContainsAny(TAGS, ("a",)))),
        ("Tags IN ('a', 'b', 'a')", ContainsAny(TAGS, ("a", "b"))),
        ("Tags NOT IN ('a')", Not(ContainsAny(TAGS, ("a",)))),
        ("Txt = 'Gr\u00fcn, BLUE-red'", ContainsAny(TXT, ("grun", "blue", "red"))),
        ("Txt != 'a'", Not(ContainsAny(TXT, ("a",)))),
        ("Txt = '!'", ContainsAny(TXT, ())),
    ],
)
def test_lists_and_texts_are_asked_for_members(text: str, node: Node) -> None:
    assert where(text) == node


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ("'a'", "a"),
        ('"a"', "a"),
        ("''", ""),
        ("'it''s'", "it's"),
        (r"'it\'s'", "it's"),
        ('"it\'s"', "it's"),
        ("'say \"x\"'", 'say "x"'),
        (r"'a\\b'", "a\\b"),
        (r"'a\nb'", "a\nb"),
        (r"'100\%'", r"100\%"),
        ("'-- no comment /* */ #'", "-- no comment /* */ #"),
        ("'; DROP TABLE x'", "; DROP TABLE x"),
        ("'\u00e9\U0001f600'", "\u00e9\U0001f600"),
        ("'`'", "`"),
        ("'!'", "!"),
        ("'=='", "=="),
    ],
)
def test_strings_in_both_quotes(literal: str, text: str) -> None:
    assert where(f"Kw = {literal}") == Comparison(KW, Operator.EQUAL, text)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("`Kw`", "Kw"),
        ("`My-Odd Name`", "My-Odd Name"),
        ("Order", "Order"),
        ("Status", "Status"),
        ("ScheduleId", "WorkflowId"),
        ("TemporalScheduleId", "WorkflowId"),
        ("TemporalWorkflowId", "WorkflowId"),
        ("ScheduledById", "TemporalScheduledById"),
        ("BuildIds", "BuildIds"),
    ],
)
def test_names(name: str, meant: str) -> None:
    node = where(f"{name} IS NULL")
    assert isinstance(node, IsNull)
    assert node.attribute.name == meant


def test_a_namespaces_own_attribute_wins_over_an_alias_but_not_over_a_built_in_one() -> None:
    own = {"ScheduleId": AttributeType.INT, "WorkflowId": AttributeType.INT}
    assert parse_query("ScheduleId = 1", own).where == Comparison(
        Attribute("ScheduleId", AttributeType.INT), Operator.EQUAL, 1
    )
    assert parse_query("WorkflowId = 'a'", own).where == Comparison(WORKFLOW_ID, Operator.EQUAL, "a")


@pytest.mark.parametrize(
    "word", ["select", "date", "when", "limits", "interval", "_utf8", "mod", "Key", "$x", "xor", "by"]
)
def test_any_word_can_be_a_name(word: str) -> None:
    own = {word: AttributeType.INT}
    assert parse_query(f"{word} = 1 and {word} in (1)", own).where == And(
        (
            Comparison(Attribute(word, AttributeType.INT), Operator.EQUAL, 1),
            InList(Attribute(word, AttributeType.INT), (1,)),
        )
    )


def test_runs_in_a_division_are_hidden_unless_the_query_mentions_divisions() -> None:
    hidden = IsNull(DIVISION)
    assert parse_query("", {}).filter == hidden
    assert parse_query("Num=1", CUSTOM_ATTRIBUTES).filter == And((ONE, hidden))
    assert parse_query("Num=1 and Num=2", CUSTOM_ATTRIBUTES).filter == And((ONE, TWO, hidden))
    mentioned = parse_query("Num=1 or NamespaceDivision = 'x'", CUSTOM_ATTRIBUTES)
    assert mentioned.mentions_namespace_division
    assert mentioned.filter == mentioned.where
    assert parse_query("GROUP BY TemporalNamespaceDivision", {}).filter is None


def test_group_by_names_the_attribute() -> None:
    assert parse_query("group  by `ExecutionStatus`", {}) == Query(None, "ExecutionStatus", (), False)
    assert parse_query("Num=1 GROUP BY ExecutionStatus", CUSTOM_ATTRIBUTES) == Query(
        ONE, "ExecutionStatus", (), False
    )
    low = {"TemporalLowCardinalityKeyword01": AttributeType.KEYWORD}
    assert (
        parse_query("GROUP BY TemporalLowCardinalityKeyword01", low).group_by
        == "TemporalLowCardinalityKeyword01"
    )


def test_order_by_is_refused_unless_asked_for() -> None:
    text = "Num=1 ORDER BY StartTime DESC, WorkflowId, Num ASC"
    assert refusal(text) == "invalid query: operation is not supported: 'ORDER BY' clause"
    assert parse_query(text, CUSTOM_ATTRIBUTES, allow_order_by=True).order_by == (
        OrderBy(Attribute("StartTime", AttributeType.DATETIME), True),
        OrderBy(WORKFLOW_ID, False),
        OrderBy(NUM, False),
    )


@pytest.mark.parametrize(
    "text",
    [
        "Num=1, Num=2",
        "Num=1, Num",
        "Num=1 GROUP BY",
        "GROUP BY ExecutionStatus, ExecutionStatus",
        "GROUP BY (ExecutionStatus)",
        "GROUP BY ExecutionStatus WITH ROLLUP",
        "GROUP BY ExecutionStatus HAVING Num=1",
        "ORDER BY",
        "ORDER BY StartTime NULLS FIRST",
        "(GROUP BY ExecutionStatus)",
        "Num=1 UNION SELECT 1",
        "Num=1; Num=2",
        "Num=1 INTO x",
        "Num=1 FOR UPDATE",
        "Num IN (SELECT Num)",
        "Num IN ((1,2),(3,4))",
        "Num IN Num",
        "Num IN UNNEST(x)",
        "Num = ANY(1)",
        "Num IS DISTINCT FROM 1",
        "Kw LIKE 'a' ESCAPE 'b'",
        "Num = 1 IS NULL",
        "Num IS NULL IS NULL",
        "Num = (1)",
        "(Num) = 1",
        "Num = NOT 1",
        "Num = - Num",
        "Num[1] = 1",
        "Num::text = 'a'",
        "Num -> 'a' = 1",
        "{'a': 1}",
        "``",
        "`Num = 1",
        "Num = 1 /* open",
        "Kw = 'open",
        "Kw = 'a' 'b'",
        "Kw = N'a'",
        "Num = 0b1",
        "Num = 1 \\",
        "Kw = 'a\\0b'",
        "Kw = 'a\x00b'",
        "Kw = 'a\ud800b'",
        "Num = 1e",
        "Num = 1e999",
    ],
)
def test_refused_with_the_typed_error(text: str) -> None:
    assert refusal(text).startswith("invalid query: ")


@pytest.mark.parametrize(
    ("text", "position", "near"),
    [
        ("Num = = 1", 7, "="),
        ("Num = 1 Kw", 9, "Kw"),
        ("Num * 2", 5, "*"),
        ("Kw = 'a' and [", 14, "["),
        ("   )", 4, ")"),
    ],
)
def test_syntax_errors_tell_the_position_in_the_query(text: str, position: int, near: str) -> None:
    assert (
        refusal(text)
        == f"invalid query: malformed SQL query: syntax error at position {position} near '{near}'"
    )


def test_long_texts_are_cut_in_messages() -> None:
    for text in (
        f"{'a' * 9000} = 1",
        f"Num = '{'a' * 9000}'",
        f"When = '{'a' * 9000}'",
        f"Num = {'9' * 9000}",
    ):
        assert len(refusal(text)) < 400


def test_length_is_limited() -> None:
    text = f"Kw = '{'a' * (MAX_QUERY_CHARS - 7)}'"
    assert where(text) is not None
    assert refusal(text + " ") == f"invalid query: longer than {MAX_QUERY_CHARS} characters"


@pytest.mark.parametrize(
    ("before", "after"), [("(", ")"), ("NOT ", ""), ("NOT (", ")"), ("Num IN (1, (", "))")]
)
def test_nesting_is_limited(before: str, after: str) -> None:
    text = before * MAX_QUERY_CHARS + "Num=1" + after * MAX_QUERY_CHARS
    for many in (MAX_NESTING + 1, 100, 600):
        assert "max nesting level reached" in refusal(before * many + "Num=1" + after * many)
    assert "longer than" in refusal(text)


@pytest.mark.parametrize(("before", "after"), [("(", ")"), ("NOT ", ""), ("NOT NOT (", ")")])
def test_nesting_up_to_the_limit_is_accepted(before: str, after: str) -> None:
    many = MAX_NESTING // (before.count("NOT") + before.count("("))
    assert where(before * many + "Num=1" + after * many) is not None


def test_closed_parentheses_do_not_count_as_nesting() -> None:
    many = MAX_NESTING * 5
    assert where(" OR ".join(["NOT (NOT Num=1)"] * many)) == Or((ONE,) * many)


def test_the_callers_own_depth_ends_in_the_typed_error() -> None:
    """Close to Python's limit on recursion the parser runs out of frames: that is an answer too, not a crash."""
    deepest = "(" * MAX_NESTING + "Num=1" + ")" * MAX_NESTING

    def from_depth(frames: int) -> str:
        if frames:
            return from_depth(frames - 1)
        return refusal(deepest)

    where(deepest)
    frames_left = 200
    depth = sys.getrecursionlimit() - len(inspect.stack(0)) - frames_left
    assert "max nesting level reached" in from_depth(depth)


def test_cache_keeps_the_queries_used_last() -> None:
    cache = QueryCache(2)
    first = cache.parse("one", "Num=1", CUSTOM_ATTRIBUTES)
    cache.parse("one", "Num=2", CUSTOM_ATTRIBUTES)
    assert cache.parse("one", "Num=1", CUSTOM_ATTRIBUTES) is first
    cache.parse("one", "Num=3", CUSTOM_ATTRIBUTES)
    assert len(cache) == 2
    assert cache.parse("one", "Num=1", CUSTOM_ATTRIBUTES) is first


def test_cache_keeps_schemas_apart() -> None:
    cache = QueryCache(2)
    cache.parse("ints", "Num=1", {"Num": AttributeType.INT})
    with pytest.raises(InvalidArgumentError):
        cache.parse("strings", "Num=1", {"Num": AttributeType.KEYWORD})
    assert len(cache) == 1
