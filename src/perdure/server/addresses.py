"""Addresses of engines that run inside a process: what the text after `sqlite://` means. No I/O but on paths.

    sqlite://                      in memory, gone when it is closed
    sqlite://?name=orders          another one in memory: the same name is the same engine
    sqlite:///orders.db            a file in the current folder
    sqlite:////var/lib/orders.db   a file by its absolute path
    sqlite:///~/orders.db          a file in the home folder

Options follow a `?`: `namespace=NAME` (repeatable) creates namespaces that are missing, `engine=process` runs the
engine of a file in a process of its own, any other name is a SQLite pragma that may be set for a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from perdure.core.errors import PerdureError

_MEMORY_PATHS = ("", ":memory:")
_DEFAULT_NAME = "default"
_PASSWORD = re.compile(r"(://[^/@:]*:).*@")


class AddressError(PerdureError, ValueError):
    """The text is not the address of an engine; the message says what one looks like."""


def host_and_port(host: str, port: int) -> str:
    """The `host:port` of a server that listens: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine keeps its data.

    Attributes:
        path: the database file, absolute and without links; None for one in memory.
        name: which one in memory.
        namespaces: to create when they are missing.
        pragmas: SQLite pragmas by name.
        in_own_process: the engine runs in a process of its own, beside that of its clients.
    """

    path: Path | None
    name: str = ""
    namespaces: tuple[str, ...] = ()
    pragmas: Mapping[str, str] = field(default_factory=dict)
    in_own_process: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Equal for places that are the same engine."""
        return ("memory", self.name) if self.path is None else ("file", str(self.path))

    def __str__(self) -> str:
        return f"The engine in memory named {self.name}" if self.path is None else f"The database {self.path}"

    @property
    def store_name(self) -> str:
        """What kind of store it is, as the cluster reports it."""
        return "memory" if self.path is None else "sqlite"


def parse_address(address: str) -> Place:
    """Read an engine's address.

    Args:
        address: such as `sqlite:///orders.db`.

    Raises:
        AddressError: it is none.
    """
    if any(character in address for character in "\t\r\n"):  # which would be left out of the file's name
        raise AddressError(
            f"{address!r}: an address is one line; write %09, %0D and %0A for a tab and line breaks."
        )
    try:
        parts = urlsplit(address)
    except ValueError as error:  # brackets, where it looks for an IPv6 address
        raise AddressError(
            f"{address}: the address of an engine in a file is sqlite:///FILE: {error}"
        ) from error
    if parts.scheme == "postgresql":
        shown = _PASSWORD.sub(r"\g<1>***@", address)
        raise AddressError(
            f"{shown}: engines on PostgreSQL are not supported by this release of Perdure. Use sqlite:///FILE, or "
            "the host:port of a server."
        )
    if parts.scheme != "sqlite" or "://" not in address:
        raise AddressError(
            f"{address}: the address of an engine inside the process is sqlite:///FILE, or sqlite:// for one in memory."
        )
    if parts.netloc:
        raise AddressError(
            f"{address}: a file's address has three slashes, as in sqlite:///{parts.netloc}{parts.path} (four for an "
            "absolute path)."
        )
    if parts.fragment:
        raise AddressError(f"{address}: write a # in a file's name as %23.")
    options = _options(address, parts.query)
    file_name = unquote(parts.path.removeprefix("/"))
    if file_name in _MEMORY_PATHS:
        others = [*options.pragmas, *(["engine"] if options.in_own_process else [])]
        if others:
            raise AddressError(f"{address}: {', '.join(others)}: an engine in memory takes no such option.")
        return replace(options, name=options.name or _DEFAULT_NAME)
    if options.name:
        raise AddressError(f"{address}: only an engine in memory has a name; a file has its path.")
    return replace(options, path=_resolved(address, file_name))


def _options(address: str, query: str) -> Place:
    """What the options of an address say, of a place whose path is not known yet."""
    namespaces: list[str] = []
    pragmas: dict[str, str] = {}
    name, in_own_process = "", False
    for key, value in parse_qsl(query, keep_blank_values=True):
        if not value:
            raise AddressError(f"{address}: the option {key} has no value.")
        if key == "namespace":
            namespaces.append(value)
        elif key == "name":
            name = value
        elif key == "engine":
            if value != "process":
                raise AddressError(
                    f"{address}: the option engine is process, or left out: then the engine runs in this process."
                )
            in_own_process = True
        else:
            pragmas[key] = value
    return Place(None, name, tuple(namespaces), pragmas, in_own_process)


def _resolved(address: str, file_name: str) -> Path:
    try:
        return Path(file_name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise AddressError(f"{address}: this is no path of a file: {error}") from error
