"""Which server the end-to-end tests run against: Perdure's, or the official dev server to check the tests themselves.

`PERDURE_TEST_TARGET=real` selects the official one; everything else about a test stays the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.servers import PerdureServer, RealServer, ServerProcess, find_executable

TARGET_VARIABLE: Final = "PERDURE_TEST_TARGET"

_SERVERS: Final[Mapping[str, type[PerdureServer | RealServer]]] = {
    "perdure": PerdureServer,
    "real": RealServer,
}


def target_name() -> str:
    """The selected target, `perdure` unless the environment says otherwise.

    Raises:
        ValueError: the variable names a target that does not exist.
    """
    name = os.environ.get(TARGET_VARIABLE, "perdure")
    if name not in _SERVERS:
        raise ValueError(f"{TARGET_VARIABLE}={name!r}; it may be one of {', '.join(sorted(_SERVERS))}")
    return name


def target_server(
    *,
    db_path: Path | None = None,
    dynamic_config: Mapping[str, str] | None = None,
    search_attributes: Mapping[str, str] | None = None,
    extra_args: Sequence[str] = (),
) -> ServerProcess:
    """A server of the selected kind, not yet started."""
    return _SERVERS[target_name()](
        db_path=db_path,
        dynamic_config=dynamic_config,
        search_attributes=search_attributes,
        extra_args=extra_args,
    )


def target_executable() -> str:
    """The path of the selected server's command (`perdure` or `temporal`)."""
    return find_executable({"perdure": "perdure", "real": "temporal"}[target_name()])
