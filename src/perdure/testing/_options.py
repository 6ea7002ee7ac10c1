"""What a test environment is told, and how the arguments of an official dev server become that."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

from perdure.client import Interceptor, Plugin
from perdure.common import QueryRejectCondition, SearchAttributeKey
from perdure.converter import DataConverter
from perdure.core.visibility.attributes import AttributeType
from perdure.runtime import Runtime
from perdure.server.config import ServerConfig, with_dynamic_values
from perdure.service import RetryConfig

logger = logging.getLogger(__name__)

_TYPES = {attribute_type.label.lower(): int(attribute_type) for attribute_type in AttributeType}


class ClientOptions(TypedDict, total=False):
    """Arguments of `Client.connect` that an environment passes on."""

    data_converter: DataConverter
    interceptors: Sequence[Interceptor]
    plugins: Sequence[Plugin]
    default_workflow_query_reject_condition: QueryRejectCondition | None
    retry_config: RetryConfig | None
    rpc_metadata: Mapping[str, str | bytes]
    identity: str | None
    runtime: Runtime | None


def client_options_in(arguments: Mapping[str, Any]) -> ClientOptions:
    """Those of a function's arguments that go to the client."""
    return cast(ClientOptions, {name: arguments[name] for name in ClientOptions.__annotations__})


@dataclass(frozen=True)
class ServerOptions:
    """What a server of an environment is started with.

    Attributes:
        config: the server's configuration.
        database: SQLite file, None for memory.
        ip: address it listens on.
        port: port it listens on, 0 for a free one.
    """

    config: ServerConfig
    database: str | None = None
    ip: str = "127.0.0.1"
    port: int = 0


def typed_attributes(keys: Sequence[SearchAttributeKey[Any]]) -> dict[str, int]:
    """Names and type numbers of search attributes.

    Raises:
        TypeError: one is no key.
    """
    for key in keys:
        if not isinstance(key, SearchAttributeKey):
            raise TypeError(
                f"search_attributes: {key!r} must be a SearchAttributeKey, such as "
                "SearchAttributeKey.for_keyword(NAME)"
            )
    return {key.name: int(key.indexed_value_type) for key in keys}


def with_arguments(config: ServerConfig, arguments: Sequence[str]) -> ServerConfig:
    """A configuration changed by command line arguments as `temporal server start-dev` takes them.

    Those without a meaning inside a process (ports of a UI, log formats) are passed over with a message in the log.

    Raises:
        ValueError: an argument has a wrong value.
        InvalidArgumentError: a dynamic configuration value has the wrong kind.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--dynamic-config-value", action="append", default=[])
    parser.add_argument("--search-attribute", action="append", default=[])
    parser.add_argument("--namespace", "-n", action="append", default=[])
    try:
        known, others = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ValueError(f"extra arguments: {error}") from error
    if others:
        logger.debug("arguments without a meaning for a server inside the process: %s", " ".join(others))
    values = {key: _json(key, text) for key, text in map(_pair, known.dynamic_config_value)}
    config, unknown = with_dynamic_values(config, values)
    if unknown:
        logger.debug("dynamic configuration keys without effect: %s", ", ".join(unknown))
    attributes = {name: _type(name, text) for name, text in map(_pair, known.search_attribute)}
    return replace(
        config,
        namespaces=(*config.namespaces, *known.namespace),
        search_attributes={**config.search_attributes, **attributes},
    )


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"extra arguments: {text!r} must be NAME=VALUE")
    return name, value


def _json(key: str, text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"extra arguments: {key}={text}: the value is not JSON") from error


def _type(name: str, text: str) -> int:
    number = _TYPES.get(text.lower())
    if number is None:
        raise ValueError(f"extra arguments: {name}={text}: the type must be one of {', '.join(_TYPES)}")
    return number
