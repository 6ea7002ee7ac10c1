"""The page of dynamic configuration keys, made from the server's own tables.

python -m tests.quality.configuration_page      # writes docs/configuration.md
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perdure.server.config import (
    _CAPABILITY_KEYS,
    _LIMIT_KEYS,
    _QUOTA_KEYS,
    _SERVER_KEYS,
    ServerConfig,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
_NANOSECONDS = 1_000_000_000
_INTRODUCTION = """# Dynamic configuration

The keys of Temporal's dynamic configuration that mean something here. The flag `--dynamic-config-value KEY=JSON` of
`perdure server start-dev` sets one; keys are not sensitive to case, durations are texts such as `"20s"`. A key that
is not listed is accepted and named in the log at level `info`; a value of the wrong kind ends the command. In code the
same are fields of `perdure.server.config.ServerConfig`.

| key | field | default |
|---|---|---|
"""


def _shown(name: str, value: Any) -> str:
    if name.endswith("_ns"):
        return f'`"{value / _NANOSECONDS:g}s"`'
    if name.endswith("_s"):
        return f'`"{value:g}s"`'
    return f"`{json.dumps(value)}`"


def page() -> str:
    """The page's text."""
    config = ServerConfig()
    rows = [(key, name, getattr(config, name)) for key, (name, _) in _SERVER_KEYS.items()]
    rows += [(key, f"limits.{name}", getattr(config.limits, name)) for key, (name, _) in _LIMIT_KEYS.items()]
    rows += [(key, f"quotas.{name}", getattr(config.quotas, name)) for key, (name, _) in _QUOTA_KEYS.items()]
    rows += [
        (key, f"capabilities.{name}", getattr(config.capabilities, name))
        for key, (name, _) in _CAPABILITY_KEYS.items()
    ]
    return _INTRODUCTION + "".join(
        f"| `{key}` | `{name}` | {_shown(name, value)} |\n" for key, name, value in sorted(rows)
    )


if __name__ == "__main__":
    PAGE.write_text(page())
