"""The two meanings of a filter, in memory and as SQL, are one."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.visibility import Node, Not, matches
from perdure.core.visibility.evaluate import truth
from tests.unit.visibility.sqlite_runs import Runs
from tests.unit.visibility.strategies import TEXT, nodes, records


@settings(max_examples=400, deadline=None)
@given(node=nodes, several=st.lists(records, min_size=1, max_size=6))
def test_memory_and_sqlite_agree(node: Node, several: list[Mapping[str, object]]) -> None:
    runs = Runs(several, texts=(TEXT.name,))
    expected = [number for number, record in enumerate(several) if matches(node, record)]
    negated = [number for number, record in enumerate(several) if matches(Not(node), record)]
    assert runs.select(node) == expected
    assert runs.select(Not(node)) == negated
    runs.close()


@settings(max_examples=200)
@given(node=nodes, record=records)
def test_nothing_is_both_true_and_false(node: Node, record: Mapping[str, object]) -> None:
    answer = truth(node, record)
    assert truth(Not(node), record) == (None if answer is None else not answer)
