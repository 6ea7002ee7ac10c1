"""Configuration: dynamic values land in the right field, and capabilities name every field that clients ask for."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from perdure.api.namespace.v1 import NamespaceInfo
from perdure.api.workflowservice.v1 import GetSystemInfoResponse
from perdure.core.errors import InvalidArgumentError
from perdure.server import config as config_module
from perdure.server.config import Capabilities, ServerConfig, with_dynamic_values


def test_capabilities_are_exactly_what_clients_can_ask_for() -> None:
    asked = {field.name for field in GetSystemInfoResponse().capabilities.DESCRIPTOR.fields}
    asked |= {field.name for field in NamespaceInfo().capabilities.DESCRIPTOR.fields}
    assert {field.name for field in fields(Capabilities)} == asked


@pytest.mark.parametrize("key", config_module._KNOWN_KEYS)
def test_every_key_changes_the_field_it_names(key: str) -> None:
    part, name, read = config_module._KNOWN_KEYS[key]
    before: Any = getattr(ServerConfig(), part) if part else ServerConfig()
    values: dict[str, Any] = {
        "read_rules": [{"Pattern": "*"}],
        "_patterns": ["a"],
        "_callback_template": "http://example.com",
    }
    value = not getattr(before, name) if read.__name__ == "_flag" else values.get(read.__name__, 7)
    changed, unknown = with_dynamic_values(ServerConfig(), {key: value})
    after: Any = getattr(changed, part) if part else changed
    assert getattr(after, name) == read(value) != getattr(before, name)
    assert unknown == ()


def test_keys_are_not_sensitive_to_case_and_unknown_ones_are_reported() -> None:
    changed, unknown = with_dynamic_values(
        ServerConfig(), {"LIMIT.BlobSize.Error": 10, "frontend.nobodyKnows": True}
    )
    assert changed.limits.blob_bytes == 10
    assert unknown == ("frontend.nobodyKnows",)


@pytest.mark.parametrize(
    ("value", "seconds"), [(20, 20.0), (0.5, 0.5), ("1m30s", 90.0), ("250ms", 0.25), ("15", 15.0)]
)
def test_durations_are_numbers_of_seconds_or_texts_with_units(value: object, seconds: float) -> None:
    changed, _ = with_dynamic_values(ServerConfig(), {"matching.longPollExpirationInterval": value})
    assert changed.long_poll_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limit.blobSize.error", "big"),
        ("limit.blobSize.error", -1),
        ("limit.blobSize.error", 1.5),
        ("limit.blobSize.error", True),
        ("matching.longPollExpirationInterval", "soon"),
        ("matching.longPollExpirationInterval", -1),
        ("matching.longPollExpirationInterval", None),
        ("frontend.visibilityMaxPageSize", 0),
        ("frontend.historyMaxPageSize", 0),
        ("history.cacheMaxSize", 0),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{key}="):
        with_dynamic_values(ServerConfig(), {key: value})
