"""`perdure config`: profiles of the configuration file, which applications and the official tools read, too.

What the file has besides profiles and known properties is kept; comments are not.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from datetime import time as day_time
from pathlib import Path
from typing import Any, Final

from perdure.cli import flags as f
from perdure.cli.command import Flags, Group
from perdure.cli.env_file import replace_file
from perdure.cli.errors import EXIT_NOT_FOUND, CommandError, WrongUsageError, nearest
from perdure.cli.session import Session

config = Group("config", "Keep addresses, namespaces and credentials in profiles of the configuration file.")

_META: Final = "grpc_meta"
_BOOLEANS: Final = {"true": True, "false": False}
PROPERTIES: Final[Mapping[str, type]] = {
    "address": str, "namespace": str, "api_key": str, "authority": str, "tls": bool, "tls.disabled": bool,
    "tls.client_cert_path": str, "tls.client_cert_data": str, "tls.client_key_path": str,
    "tls.client_key_data": str, "tls.server_ca_cert_path": str, "tls.server_ca_cert_data": str,
    "tls.server_name": str, "tls.disable_host_verification": bool, "codec.endpoint": str, "codec.auth": str,
}  # fmt: skip
"""Properties of a profile; `grpc_meta.KEY` besides."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_PROP: Final = f.text("--prop", "-p", metavar="NAME", help="Property, such as address or tls.server_name.")
_NEEDED: Final = f.text("--prop", "-p", required=True, metavar="NAME", help="Property, such as address.")


def _check(name: str) -> None:
    if name not in PROPERTIES and not name.startswith(f"{_META}."):
        raise WrongUsageError(f"there is no property {name!r}{nearest(name, PROPERTIES)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error


def _profile(session: Session, document: dict[str, Any]) -> dict[str, Any]:
    name = session.settings.profile_name
    found = document.get("profile", {}).get(name)
    if not isinstance(found, dict):
        raise CommandError(f"there is no profile {name!r} in {session.settings.config_file}", EXIT_NOT_FOUND)
    return found


def _parent(profile: dict[str, Any], name: str, *, makes: bool = False) -> tuple[dict[str, Any] | None, str]:
    """The table that holds a property, and the property's name in it."""
    table, _, leaf = name.rpartition(".")
    if not table:
        return profile, leaf
    if makes and not isinstance(profile.get(table), dict):
        profile[table] = {}
    inner = profile.get(table)
    return (inner if isinstance(inner, dict) else None), leaf


def _flat(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as properties and values."""
    found: dict[str, Any] = {}
    for name, value in profile.items():
        if isinstance(value, dict):
            found |= {"tls": True} if name == "tls" else {}
            found |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            found[name] = value
    return found


@config.add("list", example="perdure config list")
def list_profiles(session: Session, flags: Flags) -> None:
    """List the profiles of the configuration file."""
    rows = [{"name": name} for name in sorted(_read(session.settings.config_file).get("profile", {}))]
    if session.out.is_json:
        session.out.json(rows)
    session.out.table(rows, ["name"])


@config.add("get", _PROP, example="perdure config get --profile prod --prop address")
def get(session: Session, flags: Flags) -> None:
    """Show a profile, or one property of it."""
    profile = _profile(session, _read(session.settings.config_file))
    if not flags.prop:
        if session.out.is_json:
            session.out.json(profile)
        rows = [{"property": name, "value": value} for name, value in sorted(_flat(profile).items())]
        session.out.table(rows, ["property", "value"])
        return
    if flags.prop in ("codec", _META):
        raise WrongUsageError(f"{flags.prop} has several properties; name one, such as {flags.prop}.KEY")
    _check(flags.prop)
    found = _flat(profile)
    if flags.prop.startswith(f"{_META}.") and flags.prop not in found:
        raise CommandError(f"the profile has no {flags.prop}", EXIT_NOT_FOUND)
    row = {"property": flags.prop, "value": found.get(flags.prop, PROPERTIES.get(flags.prop, str)())}
    if session.out.is_json:
        session.out.json(row)
    session.out.table([row], ["property", "value"])


@config.add(
    "set", _NEEDED,
    f.text("--value", "-v", required=True, metavar="TEXT", help="Its value."),
    example="perdure config set --profile prod --prop address --value prod.example.org:7233",
)  # fmt: skip
def set_value(session: Session, flags: Flags) -> None:
    """Set a property of a profile, which is made if it does not exist."""
    _check(flags.prop)
    path = session.settings.config_file
    document = _read(path)
    profile = document.setdefault("profile", {}).setdefault(session.settings.profile_name, {})
    value: Any = flags.value
    if PROPERTIES.get(flags.prop) is bool:
        if flags.value not in _BOOLEANS:
            raise WrongUsageError(f"{flags.prop} must be true or false")
        value = _BOOLEANS[flags.value]
    if flags.prop == "tls":
        if value:
            profile.setdefault("tls", {})
        else:
            profile.pop("tls", None)
    else:
        table, name = _parent(profile, flags.prop, makes=True)
        (table if table is not None else profile)[name] = value
    replace_file(path, to_toml(document))


@config.add("delete", _NEEDED, example="perdure config delete --profile prod --prop api_key")
def delete(session: Session, flags: Flags) -> None:
    """Remove a property from a profile."""
    _check(flags.prop)
    document = _read(session.settings.config_file)
    table, name = _parent(_profile(session, document), flags.prop)
    if table is None or name not in table:
        raise CommandError(f"the profile has no {flags.prop}", EXIT_NOT_FOUND)
    del table[name]
    replace_file(session.settings.config_file, to_toml(document))


@config.add("delete-profile", example="perdure config delete-profile --profile prod")
def delete_profile(session: Session, flags: Flags) -> None:
    """Remove a profile, which must be named with --profile."""
    if "profile" not in session.settings.given:
        raise WrongUsageError("--profile is needed, so that no profile is removed by mistake")
    document = _read(session.settings.config_file)
    _profile(session, document)
    del document["profile"][session.settings.profile_name]
    replace_file(session.settings.config_file, to_toml(document))


def to_toml(document: Mapping[str, Any]) -> str:
    """A document as TOML: values first, then a table each."""
    lines: list[str] = []
    _write_table(lines, (), document)
    return "\n".join(lines).strip() + "\n" if lines else ""


def _write_table(lines: list[str], path: tuple[str, ...], table: Mapping[str, Any]) -> None:
    values = {name: value for name, value in table.items() if not isinstance(value, dict)}
    inner = {name: value for name, value in table.items() if isinstance(value, dict)}
    if path and (values or not inner):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(name)} = {_value(value)}" for name, value in values.items()]
    for name, each in inner.items():
        _write_table(lines, (*path, name), each)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime | date | day_time):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items()) + "}"
    raise CommandError(f"{value!r} has no form in TOML")
