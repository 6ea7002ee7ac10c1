"""Arguments of an official dev server, read for a server inside the process."""

from __future__ import annotations

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.server.config import ServerConfig
from perdure.testing._options import typed_attributes, with_arguments


def test_known_arguments_have_an_effect_and_others_none() -> None:
    """As test suites pass them."""
    config = with_arguments(
        ServerConfig(namespaces=("a",)),
        [
            "--dynamic-config-value",
            'matching.longPollExpirationInterval="10s"',
            "--dynamic-config-value",
            "system.forceSearchAttributesCacheRefreshOnRead=true",
            "--search-attribute",
            "Shade=Keyword",
            "--namespace",
            "b",
            "--ui-port",
            "8233",
            "--headless",
        ],
    )
    assert config.long_poll_s == 10
    assert config.search_attributes == {"Shade": 2}
    assert config.namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dynamic-config-value", "nothing"], "NAME=VALUE"),
        (["--dynamic-config-value", "a=text"], "not JSON"),
        (["--search-attribute", "Shade=Colour"], "the type must be one of"),
        (["--namespace"], "expected one argument"),
    ],
)
def test_wrong_arguments_are_said(arguments: list[str], says: str) -> None:
    """Not passed over like those without a meaning here."""
    with pytest.raises(ValueError, match=says):
        with_arguments(ServerConfig(), arguments)


def test_a_search_attribute_that_is_no_key_is_named() -> None:
    """A name alone does not say the type."""
    with pytest.raises(TypeError, match=r"'Shade' must be a SearchAttributeKey"):
        typed_attributes(["Shade"])  # type: ignore[list-item]


def test_a_wrong_value_of_a_known_key() -> None:
    """The configuration says what it must be."""
    with pytest.raises(InvalidArgumentError, match="duration"):
        with_arguments(ServerConfig(), ["--dynamic-config-value", 'matching.longPollExpirationInterval="x"'])
