"""The tables of built-in attributes, and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perdure.api.enums.v1 import IndexedValueType
from perdure.core.visibility import (
    CLOSED_ONLY_ATTRIBUTES,
    PREDEFINED_ATTRIBUTES,
    SYSTEM_ATTRIBUTES,
    AttributeType,
    is_definable,
    matches,
    parse_query,
    text_tokens,
)
from perdure.core.visibility.attributes import resolve


def test_types_are_those_of_the_protocol() -> None:
    protocol = {
        name.removeprefix("INDEXED_VALUE_TYPE_"): number
        for name, number in IndexedValueType.items()
        if number
    }
    assert {kind.name: kind.value for kind in AttributeType} == protocol
    assert AttributeType.KEYWORD_LIST.label == "KeywordList"


def test_tables_do_not_overlap_and_closed_only_attributes_are_system_ones() -> None:
    assert not SYSTEM_ATTRIBUTES.keys() & PREDEFINED_ATTRIBUTES.keys()
    assert CLOSED_ONLY_ATTRIBUTES.issubset(SYSTEM_ATTRIBUTES)
    assert len(SYSTEM_ATTRIBUTES) == 16


@pytest.mark.parametrize("name", ["WorkflowId", "BuildIds", "TemporalAnything", "Memo", "NamespaceId"])
def test_reserved_names_cannot_be_defined(name: str) -> None:
    assert not is_definable(name)


def test_other_names_can_be_defined() -> None:
    assert is_definable("ScheduleId")
    assert is_definable("CustomerName")


def test_names_that_are_nothing_resolve_to_nothing() -> None:
    for name in ("", "Temporal", "workflowid", "Memo", "TemporalMemo", "Custom"):
        assert resolve(name, {}) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("  ,.! ", ()),
        ("Hello, big-World hello", ("hello", "big", "world")),
        ("snake_case v2.0", ("snake", "case", "v2", "0")),
        ("W\u00d6RLD w\u00f6rld wo\u0308rld world", ("world",)),
        ("stra\u00dfe", ("strasse",)),
        ("\u65e5\u672c", ("\u65e5\u672c",)),
    ],
)
def test_words_of_a_text(text: str, words: tuple[str, ...]) -> None:
    assert text_tokens(text) == words


def test_a_value_of_another_type_counts_as_missing() -> None:
    """A namespace can define an attribute anew with another type: old records must not break a list."""
    own = {"Num": AttributeType.INT, "Tags": AttributeType.KEYWORD_LIST}
    for text in ("Num > 1", "Num <= 1", "Num != 1", "Num in (1)", "Num between 1 and 2", "Tags = 'a'"):
        assert not matches(parse_query(text, own).where, {"Num": "text", "Tags": "a"})
    assert matches(parse_query("Num is null and Tags != 'a'", own).where, {"Num": "text", "Tags": "a"})


def test_importing_the_package_does_not_import_the_parser() -> None:
    code = "import sys, perdure.core.visibility; print(any(name.split('.')[0] == 'sqlglot' for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
