"""How a proto name becomes a Python name. Pure text and descriptors; no files are read or written here."""

from __future__ import annotations

import keyword

_PREFIXES = (
    ("temporal.api.", "perdure.api."),
    ("google.protobuf", "perdure.api.protobuf"),
    ("google.", "perdure.api.google."),
)


def module_of(proto_package: str) -> str | None:
    """Return the Python module that shows the messages of `proto_package`, or None if it gets no module.

    Packages that only carry options for other tools (OpenAPI, Nexus annotations) get none: their descriptors
    are registered because others refer to them, but nobody needs their classes.
    """
    for prefix, replacement in _PREFIXES:
        if proto_package.startswith(prefix):
            return replacement + proto_package[len(prefix) :]
    return None


def is_usable(name: str) -> bool:
    """Return whether `name` can be written as an attribute or keyword argument in Python source."""
    return name.isidentifier() and not keyword.iskeyword(name)
