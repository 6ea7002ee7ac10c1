"""The build hook: generates the wire contract into `src/perdure/api` before a wheel or editable install."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WireContractHook(BuildHookInterface[BuilderConfig]):
    """Runs the generator and names its files as artifacts, because version control ignores them."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate the contract; `version` is hatch's name of the build ("standard" or "editable")."""
        root = Path(self.root)
        sys.path.insert(0, str(root))
        try:
            from build_api import package, sources

            written = package.write(sources.collect(), root / "src" / "perdure" / "api")
        finally:
            sys.path.remove(str(root))
        build_data["artifacts"].extend("/" + path.relative_to(root).as_posix() for path in written)
