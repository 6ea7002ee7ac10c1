"""`perdure server`: flags of `start-dev`, turned into a configuration. Running it is in `run_server`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.cli.command import CONTEXT_SETTINGS, Group, Level
from perdure.cli.root import global_flag, global_options
from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility.attributes import AttributeType, is_definable
from perdure.server.config import ServerConfig, with_dynamic_values

if TYPE_CHECKING:
    from perdure.cli.ui_door import UiPlace

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_TYPES: Final = {attribute_type.label.lower(): attribute_type for attribute_type in AttributeType}
_LABELS: Final = ", ".join(attribute_type.label for attribute_type in AttributeType)

_NOT_YET: Final = {
    "metrics_port": "--metrics-port: the metrics endpoint",
    "ui_asset_path": "--ui-asset-path: assets of one's own",
}
"""Flags that are accepted although their feature is not there: parameter to flag and feature."""
_UI_PORT_OFFSET: Final = 1000
"""Without `--ui-port`, the UI's port is that of gRPC and so much."""


server: Final = Group("server", "Run a server.")

_LARGEST_PORT: Final = 65_535
_PORT: Final = click.IntRange(0, _LARGEST_PORT)


_FLAGS: Final = (
    click.option("--ip", default="localhost", show_default=True, help="Address the gRPC service listens on."),
    click.option(
        "--port", "-p", type=_PORT, default=7233, show_default=True, help="Port of the gRPC service; 0: any."
    ),
    click.option(
        "--db-filename",
        "-f",
        metavar="PATH",
        help="SQLite file to keep everything in. Without it everything is lost when the server ends.",
    ),
    click.option("--namespace", "-n", multiple=True, help="Namespace to create at start. Repeatable."),
    click.option(
        "--search-attribute",
        multiple=True,
        metavar="NAME=TYPE",
        help=f"Search attribute to define at start; types: {_LABELS}. Repeatable.",
    ),
    click.option(
        "--dynamic-config-value",
        multiple=True,
        metavar="KEY=JSON",
        help='Dynamic configuration value, for example matching.longPollExpirationInterval="10s". Repeatable.',
    ),
    click.option(
        "--sqlite-pragma", multiple=True, metavar="PRAGMA=VALUE", help="SQLite pragma statement. Repeatable."
    ),
    click.option("--headless", is_flag=True, help="Run without the web UI."),
    click.option(
        "--time-skipping",
        is_flag=True,
        help="For tests: serve TestService, by whose locks the clock skips to the next deadline.",
    ),
    click.option("--log-config", is_flag=True, help="Print the server's configuration to stderr."),
    click.option(
        "--http-port",
        type=_PORT,
        help="Port of the HTTP API (JSON for every RPC, and Nexus); 0: any.",
    ),
    click.option("--metrics-port", type=_PORT, help="Port of the /metrics endpoint."),
    click.option(
        "--ui-port", type=_PORT, help="Port of the web UI; 0: any. Default: the port of gRPC + 1000."
    ),
    click.option("--ui-ip", metavar="IP", help="Address the web UI listens on. Default: that of --ip."),
    click.option(
        "--ui-allow-host",
        multiple=True,
        metavar="NAME",
        help="Another name that browsers reach the web UI by. Repeatable.",
    ),
    click.option("--ui-asset-path", metavar="PATH", help="Custom assets of the web UI."),
    click.option("--ui-codec-endpoint", metavar="URL", help="Remote codec endpoint of the web UI."),
    click.option("--ui-public-path", metavar="PATH", help="Base path of the web UI."),
    click.option(
        "--ui-disable-news-fetch", is_flag=True, help="Accepted; the web UI never asks anybody else."
    ),
)


def _start_dev_flags(function: Any) -> Any:
    for flag in reversed(_FLAGS):
        function = flag(function)
    return function


@server.command("start-dev", cls=Level, context_settings=CONTEXT_SETTINGS)
@_start_dev_flags
@global_options
@click.pass_context
def start_dev(ctx: click.Context, /, **flags: Any) -> None:
    """Run a development server on this machine.

    Everything is kept in memory unless --db-filename names a file.

    Example: perdure server start-dev --db-filename orders.db
    """
    from perdure.cli.run_server import DevServer, run_dev_server

    if flags["sqlite_pragma"] and not flags["db_filename"]:
        raise click.UsageError("--sqlite-pragma needs --db-filename")
    values = _dynamic_values(flags["dynamic_config_value"])
    config = ServerConfig(
        host=flags["ip"],
        port=flags["port"],
        http_port=flags["http_port"],
        namespaces=flags["namespace"],
        search_attributes=_search_attributes(flags["search_attribute"]),
        time_skipping=flags["time_skipping"],
    )
    try:
        config, unknown = with_dynamic_values(config, values)
    except InvalidArgumentError as error:
        raise click.UsageError(f"--dynamic-config-value {error}") from None
    notices = [f"{text} is not available yet; the flag is ignored" for text in _unavailable(flags)]
    code = run_dev_server(
        DevServer(
            config=config,
            db_filename=flags["db_filename"],
            pragmas=_pairs(flags["sqlite_pragma"], "--sqlite-pragma"),
            log_level=global_flag(ctx, "log_level", "warn"),
            log_format=global_flag(ctx, "log_format", "text"),
            ui=_ui(flags),
            show_config=flags["log_config"],
            notices=notices,
            unknown_keys=unknown,
        )
    )
    ctx.exit(code)


def _ui(flags: dict[str, Any]) -> UiPlace | None:
    """Where the web UI is to be; None without one."""
    if flags["headless"]:
        return None
    from perdure.cli.ui_door import UiPlace

    port = flags["ui_port"]
    if port is None:
        port = flags["port"] + _UI_PORT_OFFSET if flags["port"] else 0
        # A port chosen by the server itself may not exist at all.
        port = port if port <= _LARGEST_PORT else 0
    return UiPlace(
        flags["ui_ip"] or flags["ip"],
        port,
        flags["ui_allow_host"],
        flags["ui_codec_endpoint"] or "",
        flags["ui_public_path"] or "",
        flags["namespace"][0] if flags["namespace"] else "default",
        is_port_chosen=flags["ui_port"] is not None,
    )


def _unavailable(flags: dict[str, Any]) -> list[str]:
    # Without a UI its flags have no effect anywhere, so there is nothing to say about them.
    return [
        text
        for name, text in _NOT_YET.items()
        if flags[name] and not (flags["headless"] and name.startswith("ui_"))
    ]


def _pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.UsageError(f"{flag} {text!r}: it must be NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _search_attributes(texts: Sequence[str]) -> dict[str, int]:
    attributes = {}
    for name, type_name in _pairs(texts, "--search-attribute").items():
        attribute_type = _TYPES.get(type_name.lower())
        if attribute_type is None:
            raise click.UsageError(
                f"--search-attribute {name}={type_name}: the type must be one of {_LABELS}"
            )
        if not is_definable(name):
            raise click.UsageError(f"--search-attribute {name}: the name is reserved")
        attributes[name] = int(attribute_type)
    return attributes


def _dynamic_values(texts: Sequence[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, text in _pairs(texts, "--dynamic-config-value").items():
        if not _IDENTIFIER.fullmatch(key):
            raise click.UsageError(f"--dynamic-config-value {key}: the key is not an identifier")
        try:
            values[key] = json.loads(text)
        except ValueError:
            raise click.UsageError(
                f"--dynamic-config-value {key}={text}: the value is not JSON (a text needs quotes)"
            ) from None
    return values
