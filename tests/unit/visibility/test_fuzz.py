"""Any text at all: a query, or the typed error, in bounded time."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility import MAX_QUERY_CHARS, Query, matches, parse_query, to_sql
from tests.unit.visibility.real_server import CUSTOM_ATTRIBUTES, RECORDS, ROWS
from tests.unit.visibility.sqlite_runs import Runs

_WORD_TEXT = """
    WorkflowId Kw Num Dbl Flag Txt Tags `When` ExecutionStatus ExecutionDuration TemporalNamespaceDivision unknown
    = != <> < <= > >= <=> == ! and or not && || xor in between is null true false like regexp starts_with escape
    ( ) , . ; - + * / % & | ^ ~ : :: ? @ $1 [ ] { } -> ->> # -- /* */ \\ ' " ` '' 'a' "b" 'Running' '1h'
    '2024-01-01T00:00:00Z' 0 1 -1 1.5 .5 1e5 1e999 0x1 99999999999999999999 limit asc desc nulls first date
    timestamp interval case when then end cast select from where having union join values with any all exists
    distinct isnull notnull overlaps glob ilike similar to member of sounds div mod collate binary _utf8 N'x' x'61'
    b'1' at time zone current_date json unnest over filter row as next prior rollup cube grouping sets for update
    into set show explain begin
"""
_WORDS = [*_WORD_TEXT.split(), "group by", "order by", "\n", "\x00", "\ud800", "\u00a0", "\u0663"]

_soup = st.lists(st.sampled_from(_WORDS), max_size=25).flatmap(
    lambda words: st.sampled_from([" ", "", "\n"]).map(lambda space: space.join(words))
)
_valid = st.sampled_from([row.query for row in ROWS if row.ids is not None and row.ours is None])


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """A valid query with a piece replaced by a word, by another query's piece or by nothing."""
    query = draw(_valid)
    start = draw(st.integers(0, len(query)))
    end = draw(st.integers(start, min(len(query), start + 8)))
    return query[:start] + draw(st.one_of(st.just(""), st.sampled_from(_WORDS), _valid)) + query[end:]


def parsed(text: str) -> Query | None:
    """The query, or None if it is refused as it should be. Any other error fails the test."""
    try:
        return parse_query(text, CUSTOM_ATTRIBUTES, allow_order_by=True)
    except InvalidArgumentError as error:
        message = str(error)
    assert message.startswith("invalid query: ")
    assert len(message) < 500
    return None


@settings(max_examples=1500, deadline=None)
@given(st.one_of(_soup, _mutated(), st.text(), st.text("()'`\"=<>!&|-/*#;\\ aN01.e\n", max_size=30)))
@example("Num=1, Num")
@example("`")
@example("\\")
def test_any_text_is_a_query_or_the_typed_error(text: str) -> None:
    query = parsed(text)
    if query is None or query.filter is None:
        return
    runs = Runs(RECORDS, texts=("Txt",))
    try:
        assert runs.select(query.filter) == [
            n for n, record in enumerate(RECORDS) if matches(query.filter, record)
        ]
    finally:
        runs.close()


_PIECES = [
    "Num=1 or ", "Num=1 and ", "not ", "(", "'x' ", "a.", "- 1 ", "a = 1 = ", "a is null ", "a between 1 and ",
    "a in (1) ", "a like ", "1.", "a,", "Num in (1) or not ", ".5", "`a`", "Kw starts_with 'b' starts_with ",
    "group by ", "order by a ", ";", "/**/", "--\n", "\\", "'", "`", '"', "1", "a in (1,", "a <=> ", "=", "((a)) or ",
    "() ", "+1", "case when ", "interval ", "a[", "{", "@", "x'1' ", "select ", "cast(", "\u0663", "\n",
]  # fmt: skip


@pytest.mark.parametrize("piece", _PIECES)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("Num in (", ")")])
def test_the_longest_text_takes_bounded_time(piece: str, before: str, after: str) -> None:
    """Two seconds of processor time are many times what any of these takes; what is not linear takes minutes."""
    text = before + piece * ((MAX_QUERY_CHARS - len(before) - len(after)) // len(piece)) + after
    parsed("Num=1")
    started_s = time.process_time()
    query = parsed(text)
    if query is not None and query.where is not None:
        to_sql(query.where, lambda name: name, membership=lambda *_: "1 = 1")
        matches(query.where, RECORDS[0])
    assert time.process_time() - started_s < 2.0
