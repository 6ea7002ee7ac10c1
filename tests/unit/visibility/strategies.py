"""Generated records and trees: few attributes and values, so that they meet often, and some values at the limits."""

from __future__ import annotations

from hypothesis import strategies as st

from perdure.core.visibility import (
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
    StartsWith,
    text_tokens,
)

KEYWORD = Attribute("Kw", AttributeType.KEYWORD)
STATUS = Attribute("ExecutionStatus", AttributeType.KEYWORD)
INT = Attribute("Num", AttributeType.INT)
DOUBLE = Attribute("Dbl", AttributeType.DOUBLE)
BOOL = Attribute("Flag", AttributeType.BOOL)
DATETIME = Attribute("When", AttributeType.DATETIME)
KEYWORD_LIST = Attribute("Odd name's $.[1]", AttributeType.KEYWORD_LIST)
TEXT = Attribute("Txt", AttributeType.TEXT)

# NUL and halves of surrogate pairs cannot be stored by every database, and queries with them are refused.
_any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5)
_strings = st.one_of(st.text("abB%_'\"é\ud7ff\ue000\uffff\U0010ffff", max_size=3), _any_text)
_int64 = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
_doubles = st.one_of(st.integers(-16, 16), st.integers(-(2**40), 2**40)).map(lambda eighths: eighths / 8)
_sentences = st.lists(
    st.one_of(st.sampled_from(["red", "Blue", "gr\u00fcn", "1"]), _any_text), max_size=4
).map(" ".join)

_SCALARS: dict[Attribute, st.SearchStrategy[str | int | float | bool]] = {
    KEYWORD: _strings,
    STATUS: st.integers(1, 8),
    INT: _int64,
    DOUBLE: _doubles,
    BOOL: st.booleans(),
    DATETIME: _int64,
}

records = st.fixed_dictionaries(
    {},
    optional={
        **{attribute.name: values for attribute, values in _SCALARS.items()},
        KEYWORD_LIST.name: st.lists(_strings, min_size=1, max_size=3),
        TEXT.name: _sentences,
    },
)


@st.composite
def _leaves(draw: st.DrawFn) -> Node:
    kind = draw(st.sampled_from([Comparison, InList, Between, StartsWith, ContainsAny, IsNull]))
    if kind is IsNull:
        return IsNull(draw(st.sampled_from([*_SCALARS, KEYWORD_LIST, TEXT])))
    if kind is StartsWith:
        return StartsWith(KEYWORD, draw(_strings))
    if kind is ContainsAny:
        if draw(st.booleans()):
            return ContainsAny(KEYWORD_LIST, tuple(draw(st.lists(_strings, min_size=1, max_size=3))))
        return ContainsAny(TEXT, text_tokens(draw(_sentences)))
    attribute = draw(st.sampled_from(list(_SCALARS)))
    values = _SCALARS[attribute]
    if kind is InList:
        return InList(attribute, tuple(draw(st.lists(values, min_size=1, max_size=3))))
    if kind is Between:
        return Between(attribute, draw(values), draw(values))
    return Comparison(attribute, draw(st.sampled_from(list(Operator))), draw(values))


nodes = st.recursive(
    _leaves(),
    lambda children: st.one_of(
        children.map(Not),
        st.lists(children, min_size=2, max_size=4).map(lambda several: And(tuple(several))),
        st.lists(children, min_size=2, max_size=4).map(lambda several: Or(tuple(several))),
    ),
    max_leaves=12,
)
