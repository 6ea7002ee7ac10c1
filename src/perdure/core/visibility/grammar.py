"""Text to a raw syntax tree, with sqlglot.

Lives here: all that is asked of sqlglot, and the guards around it. Its parser knows the whole of SQL, so it
is only given what this language is made of: the tokens are checked first, every other word becomes a plain
name, and length and nesting are limited. What it makes of them is checked by `parse.py`.

This module imports sqlglot, which is slow: import it when a query is parsed, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.parser import binary_range_parser
from sqlglot.parsers.mysql import MySQLParser
from sqlglot.tokenizer_core import Token, TokenType

from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility.values import invalid, not_supported, shorten


class _Dialect(MySQL):
    """MySQL's quoting (two kinds of strings, names in backquotes) and the operator STARTS_WITH."""

    class Tokenizer(MySQL.Tokenizer):
        """MySQL's words and STARTS_WITH, as the token of PostgreSQL's operator `^@`."""

        KEYWORDS: ClassVar = {**MySQL.Tokenizer.KEYWORDS, "STARTS_WITH": TokenType.CARET_AT}

    class Parser(MySQLParser):
        """MySQL's grammar and STARTS_WITH."""

        RANGE_PARSERS: ClassVar = {
            **MySQLParser.RANGE_PARSERS,
            TokenType.CARET_AT: binary_range_parser(exp.StartsWith),
        }


_DIALECT: Final = _Dialect()
_SELECT: Final = "SELECT * FROM t "
_SELECT_WHERE: Final = "SELECT * FROM t WHERE "
_PREFIX_TOKENS: Final[Mapping[str, int]] = {
    prefix: len(_DIALECT.tokenize(prefix)) for prefix in (_SELECT, _SELECT_WHERE)
}

_CLAUSES: Final = frozenset({TokenType.GROUP_BY, TokenType.ORDER_BY})
_DIRECTIONS: Final = frozenset({TokenType.ASC, TokenType.DESC})
_SIGNS: Final = frozenset({TokenType.DASH, TokenType.PLUS})
_GRAMMAR: Final = _CLAUSES | {
    TokenType.STRING,
    TokenType.NUMBER,
    TokenType.TRUE,
    TokenType.FALSE,
    TokenType.NULL,
    TokenType.IDENTIFIER,
    TokenType.DOT,
    TokenType.L_PAREN,
    TokenType.R_PAREN,
    TokenType.COMMA,
    TokenType.EQ,
    TokenType.NEQ,
    TokenType.LT,
    TokenType.LTE,
    TokenType.GT,
    TokenType.GTE,
    TokenType.NULLSAFE_EQ,
    TokenType.AND,
    TokenType.DAMP,
    TokenType.OR,
    TokenType.DPIPE,
    TokenType.NOT,
    TokenType.IN,
    TokenType.BETWEEN,
    TokenType.IS,
    TokenType.LIKE,
    TokenType.RLIKE,
    TokenType.CARET_AT,
}
"""The tokens that mean something here; any other word is a name, any other sign an error."""

_SPELLINGS_REFUSED: Final = frozenset({"!", "=="})
_LITERALS_REFUSED: Final[Mapping[TokenType, str]] = {
    TokenType.HEX_STRING: "a hexadecimal value",
    TokenType.BIT_STRING: "a bit string",
    TokenType.NATIONAL_STRING: "a national string",
}


def parse_select(text: str, max_nesting: int) -> exp.Select | None:
    """Parse a query into the SELECT statement it stands for.

    Args:
        text: the query.
        max_nesting: how many parentheses and NOTs may be open at once.

    Returns:
        The statement, with at most a WHERE, a GROUP BY and an ORDER BY; None if the text says nothing.

    Raises:
        InvalidArgumentError: the text is not a query.
    """
    prefix, tokens = _tokenize(text)
    end = len(tokens)
    while end > _PREFIX_TOKENS[prefix] and tokens[end - 1].token_type is TokenType.SEMICOLON:
        end -= 1
    del tokens[end:]
    own = tokens[_PREFIX_TOKENS[prefix] :]
    if not own:
        return None
    _check(own, len(prefix), max_nesting)
    try:
        statements = _DIALECT.parser().parse(tokens, prefix + text)
    except ParseError as error:
        raise _syntax_error(error, len(prefix)) from error
    except RecursionError as error:
        # The caller's own stack was already deep: the limit on nesting leaves room, but not without end.
        raise malformed("max nesting level reached") from error
    statement = statements[0] if len(statements) == 1 else None
    if not isinstance(statement, exp.Select):
        raise malformed("not a filter")
    return statement


def malformed(reason: str) -> InvalidArgumentError:
    """Make the error of a text that is not written in this language."""
    return invalid(f"malformed SQL query: {reason}")


def _tokenize(text: str) -> tuple[str, list[Token]]:
    """Cut the statement that a text stands for into tokens; returns what was put before it as well."""
    try:
        tokens = _DIALECT.tokenize(_SELECT_WHERE + text)
        start = _PREFIX_TOKENS[_SELECT_WHERE]
        if len(tokens) > start and tokens[start].token_type not in _CLAUSES:
            return _SELECT_WHERE, tokens
        return _SELECT, _DIALECT.tokenize(_SELECT + text)
    except SqlglotError as error:
        raise malformed("a string, name or comment is not closed") from error


def _check(tokens: list[Token], offset: int, max_nesting: int) -> None:
    """Refuse what has no place in a query and turn all words that mean nothing here into names.

    Args:
        tokens: the query's tokens; their types are changed in place.
        offset: where the query begins in the text that the tokens' positions refer to.
        max_nesting: how many parentheses and NOTs may be open at once.
    """
    open_nots: list[int] = []
    nots = 0
    ordering = False
    for index, token in enumerate(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        _classify(token, following, ordering, offset)
        kind = token.token_type
        ordering = ordering or kind is TokenType.ORDER_BY
        if kind is TokenType.NOT:
            nots += 1
        else:
            if kind is TokenType.L_PAREN:
                open_nots.append(nots)
            elif kind is TokenType.R_PAREN and open_nots:
                open_nots.pop()
            nots = 0
        if len(open_nots) + sum(open_nots) + nots > max_nesting:
            raise malformed(f"max nesting level reached at position {token.start - offset + 1}")


def _classify(token: Token, following: Token | None, ordering: bool, offset: int) -> None:
    """Check one token, and make it a name if it is a word that means nothing here."""
    kind = token.token_type
    if kind in _LITERALS_REFUSED:
        raise not_supported(f"{_LITERALS_REFUSED[kind]} at position {token.start - offset + 1}")
    if kind is TokenType.LIMIT:
        raise not_supported("'LIMIT' clause")
    if kind in _SIGNS:
        # Only a number's sign: there is no arithmetic.
        if following is None or following.token_type not in (TokenType.NUMBER, TokenType.DOT):
            raise _unexpected(token, offset)
        return
    if token.text in _SPELLINGS_REFUSED and kind is not TokenType.IDENTIFIER and kind is not TokenType.STRING:
        raise _unexpected(token, offset)
    if kind in _GRAMMAR or (ordering and kind in _DIRECTIONS):
        return
    if not token.text.replace("$", "_").isidentifier():
        raise _unexpected(token, offset)
    if following is not None and following.token_type is TokenType.L_PAREN:
        raise not_supported(f"function expression '{shorten(token.text)}'")
    token.token_type = TokenType.IDENTIFIER


def _unexpected(token: Token, offset: int) -> InvalidArgumentError:
    position = token.start - offset + 1
    return malformed(f"syntax error at position {position} near '{shorten(token.text)}'")


def _syntax_error(error: ParseError, offset: int) -> InvalidArgumentError:
    """Say where the parser stopped.

    On later lines its column does not tell the position, so only the word is named.
    """
    details = error.errors[0] if error.errors else {}
    near = str(details.get("highlight") or "")
    column, line = details.get("col"), details.get("line")
    if not near:
        return malformed("syntax error at the end")
    if line == 1 and isinstance(column, int) and column > offset:
        return malformed(f"syntax error at position {column - len(near) - offset + 1} near '{shorten(near)}'")
    return malformed(f"syntax error near '{shorten(near)}'")
