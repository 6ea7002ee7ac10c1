"""The application and its driver once more with the official SDK: the same text, with other imports."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_FOLDER: Final = Path(__file__).parent
_PREFIX: Final = "tests.e2e.interoperation"


def _twin(name: str) -> Any:
    path = _FOLDER / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    text = text.replace("from perdure", "from temporalio")
    text = text.replace(f"from {_PREFIX}.application", f"from {_PREFIX}.official_application")
    twin = ModuleType(f"{_PREFIX}.official_{name}")
    sys.modules[twin.__name__] = twin
    exec(compile(text, str(path), "exec"), twin.__dict__)  # noqa: S102 - our own text, with other imports
    return twin


official_application: Final = _twin("application")
official_driver: Final = _twin("driver")
official_streams: Final = _twin("streams")
