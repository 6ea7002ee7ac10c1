"""The default build id: a hash over the code that is loaded."""

from __future__ import annotations

import hashlib
import sys
from types import CodeType

_default_build_id: str | None = None


def load_default_build_id(*, memoize: bool = True) -> str:
    """Return an id that changes when the code of the loaded modules changes.

    It depends on which modules are imported so far; set `build_id` or a deployment where that matters.

    Args:
        memoize: Remember the id for the next call.
    """
    global _default_build_id
    if memoize and _default_build_id:
        return _default_build_id
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(sys.modules):
        digest.update(_fingerprint(name))
    build_id = digest.hexdigest()
    if memoize:
        _default_build_id = build_id
    return build_id


def _fingerprint(name: str) -> bytes:
    """Return what stands for a module's code: its source's size and time, which are read without opening it."""
    module = sys.modules.get(name)
    loader = getattr(module, "__loader__", None)
    path = getattr(module, "__file__", None)
    try:
        if path is not None and loader is not None and hasattr(loader, "path_stats"):
            stats = loader.path_stats(path)
            return f"{name}:{stats.get('size')}:{stats.get('mtime')}".encode()
        if loader is not None and hasattr(loader, "get_code"):
            code = loader.get_code(name)
            if isinstance(code, CodeType):
                return name.encode() + code.co_code
    except (ImportError, OSError, ValueError, AttributeError, TypeError):
        # Built-in modules and exotic loaders: their name stands for them.
        pass
    return name.encode()
