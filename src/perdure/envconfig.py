"""Configuration of clients from TOML files and environment variables, as all of Temporal's SDKs and tools read them.

May live here: profiles, and reading them. May not: connecting with them.

A profile is a table `[profile.NAME]` of a file: the one given, else that named by `TEMPORAL_CONFIG_FILE`, else
`temporalio/temporal.toml` in the user's directory for configuration. Variables `TEMPORAL_...` override it.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, TypedDict, cast

from perdure.exceptions import TemporalError
from perdure.service import TLSConfig

DataSource: TypeAlias = Path | str | bytes
"""A path, or the content itself as text or bytes."""

DEFAULT_PROFILE: Final = "default"
"""The profile that is meant where none is named."""
_GRPC_META_PREFIX: Final = "TEMPORAL_GRPC_META_"
_TLS_SOURCES: Final = ("client_cert", "client_key", "server_ca_cert")
# What a source is called in messages, and the names of its variables without the ending.
_TLS_SOURCE_VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    "client_cert": ("cert", "TEMPORAL_TLS_CLIENT_CERT"),
    "client_key": ("key", "TEMPORAL_TLS_CLIENT_KEY"),
    "server_ca_cert": ("server CA cert", "TEMPORAL_TLS_SERVER_CA_CERT"),
}
_TLS_VARIABLES: Final = (
    "TEMPORAL_TLS",
    "TEMPORAL_TLS_SERVER_NAME",
    "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION",
    *(f"{stem}_{ending}" for _, stem in _TLS_SOURCE_VARIABLES.values() for ending in ("PATH", "DATA")),
)
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_PROFILE_TYPES: Final[Mapping[str, type]] = {
    "address": str,
    "namespace": str,
    "api_key": str,
    "tls": dict,
    "codec": dict,
    "grpc_meta": dict,
}
_TLS_TYPES: Final[Mapping[str, type]] = {
    "disabled": bool,
    "server_name": str,
    "disable_host_verification": bool,
    **{f"{name}_{ending}": str for name in _TLS_SOURCES for ending in ("path", "data")},
}
_CODEC_TYPES: Final[Mapping[str, type]] = {"endpoint": str, "auth": str}


class ConfigError(TemporalError, RuntimeError):
    """A configuration cannot be read, or contradicts itself; the message names the setting."""


class ClientConfigTLSDict(TypedDict, total=False):
    """TLS settings as a dictionary fit for TOML."""

    disabled: bool | None
    server_name: str
    server_ca_cert: Mapping[str, str]
    client_cert: Mapping[str, str]
    client_key: Mapping[str, str]


class ClientConfigProfileDict(TypedDict, total=False):
    """A profile as a dictionary fit for TOML."""

    address: str
    namespace: str
    api_key: str
    tls: ClientConfigTLSDict
    grpc_meta: Mapping[str, str]


class ClientConnectConfig(TypedDict, total=False):
    """The arguments of `Client.connect` that a profile can give."""

    target_host: str
    namespace: str
    api_key: str
    tls: bool | TLSConfig
    rpc_metadata: Mapping[str, str]


@dataclass(frozen=True)
class ClientConfigTLS:
    """TLS settings of a profile."""

    disabled: bool | None = None
    """True: no TLS. False: TLS. None: not said."""
    server_name: str | None = None
    """Name sent to the server and checked against its certificate."""
    server_root_ca_cert: DataSource | None = None
    """Certificates that may have signed the server's."""
    client_cert: DataSource | None = None
    """The client's own certificate."""
    client_private_key: DataSource | None = None
    """Private key of that certificate."""

    def to_dict(self) -> ClientConfigTLSDict:
        """Return the settings as a dictionary fit for TOML."""
        settings: dict[str, Any] = {
            "disabled": self.disabled,
            "server_name": self.server_name,
            "server_ca_cert": _source_to_dict(self.server_root_ca_cert),
            "client_cert": _source_to_dict(self.client_cert),
            "client_key": _source_to_dict(self.client_private_key),
        }
        return cast(ClientConfigTLSDict, {name: v for name, v in settings.items() if v is not None})

    def to_connect_tls_config(self) -> bool | TLSConfig:
        """Return what `Client.connect` takes as `tls`; files are read.

        Raises:
            OSError: A file cannot be read.
        """
        if self.disabled is True:
            return False
        return TLSConfig(
            domain=self.server_name,
            server_root_ca_cert=_read_source(self.server_root_ca_cert, "server_ca_cert"),
            client_cert=_read_source(self.client_cert, "client_cert"),
            client_private_key=_read_source(self.client_private_key, "client_key"),
        )

    @classmethod
    def from_dict(cls, d: ClientConfigTLSDict | None) -> Self | None:
        """Return the settings of a dictionary as `to_dict` makes it; None if there are none."""
        if not d:
            return None
        return cls(
            disabled=d.get("disabled"),
            server_name=d.get("server_name"),
            server_root_ca_cert=_dict_to_source(d.get("server_ca_cert")),
            client_cert=_dict_to_source(d.get("client_cert")),
            client_private_key=_dict_to_source(d.get("client_key")),
        )


@dataclass(frozen=True)
class ClientConfigProfile:
    """One profile: where and how to connect."""

    address: str | None = None
    """`host:port`."""
    namespace: str | None = None
    """The namespace."""
    api_key: str | None = None
    """The API key."""
    tls: ClientConfigTLS | None = None
    """TLS settings."""
    grpc_meta: Mapping[str, str] = field(default_factory=dict)
    """Metadata of all calls."""

    @classmethod
    def from_dict(cls, d: ClientConfigProfileDict) -> Self:
        """Return the profile of a dictionary as `to_dict` makes it."""
        return cls(
            address=d.get("address"),
            namespace=d.get("namespace"),
            api_key=d.get("api_key"),
            tls=ClientConfigTLS.from_dict(d.get("tls")),
            grpc_meta=d.get("grpc_meta") or {},
        )

    def to_dict(self) -> ClientConfigProfileDict:
        """Return the profile as a dictionary fit for TOML."""
        settings: dict[str, Any] = {
            "address": self.address,
            "namespace": self.namespace,
            "api_key": self.api_key,
            "tls": (self.tls.to_dict() or None) if self.tls else None,
            "grpc_meta": self.grpc_meta or None,
        }
        return cast(ClientConfigProfileDict, {name: v for name, v in settings.items() if v is not None})

    def to_client_connect_config(self) -> ClientConnectConfig:
        """Return arguments for `Client.connect`; those not said are left out.

        Raises:
            OSError: A file with a certificate or key cannot be read.
        """
        config: ClientConnectConfig = {}
        if self.address:
            config["target_host"] = self.address
        if self.namespace is not None:
            config["namespace"] = self.namespace
        if self.api_key is not None:
            config["api_key"] = self.api_key
            config["tls"] = True
        if self.tls is not None:
            config["tls"] = self.tls.to_connect_tls_config()
        if self.grpc_meta:
            config["rpc_metadata"] = self.grpc_meta
        return config

    @staticmethod
    def load(
        profile: str | None = None,
        *,
        config_source: DataSource | None = None,
        disable_file: bool = False,
        disable_env: bool = False,
        config_file_strict: bool = False,
        override_env_vars: Mapping[str, str] | None = None,
    ) -> ClientConfigProfile:
        """Read one profile, and let environment variables override it.

        Args:
            profile: Its name; None means `TEMPORAL_PROFILE`, and without that `default`, which need not exist.
            config_source: The file or its content; None means the default file.
            disable_file: Read no file.
            disable_env: Look at no variables.
            config_file_strict: Unknown settings are an error.
            override_env_vars: Variables to look at instead of the process's.

        Raises:
            ConfigError: The profile does not exist, or a setting is wrong.
        """
        if disable_file and disable_env:
            raise ConfigError("Invalid configuration: Cannot disable both file and environment loading")
        variables = os.environ if override_env_vars is None else override_env_vars
        settings: dict[str, Any] = {}
        if not disable_file:
            profiles = _read_profiles(config_source, config_file_strict, variables)
            name = profile
            if name is None and not disable_env:
                name = variables.get("TEMPORAL_PROFILE") or None
            found = profiles.get(DEFAULT_PROFILE if name is None else name)
            if found is None and name is not None:
                raise ConfigError(f"Profile '{name}' not found")
            settings = found or {}
        if not disable_env:
            _apply_variables(settings, variables)
        return ClientConfigProfile.from_dict(cast(ClientConfigProfileDict, settings))


@dataclass
class ClientConfig:
    """All profiles of a file."""

    profiles: Mapping[str, ClientConfigProfile]
    """By name."""

    def to_dict(self) -> Mapping[str, ClientConfigProfileDict]:
        """Return the profiles as a dictionary fit for TOML."""
        return {name: profile.to_dict() for name, profile in self.profiles.items()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return the profiles of a dictionary as `to_dict` makes it."""
        return cls(
            {
                name: ClientConfigProfile.from_dict(cast(ClientConfigProfileDict, profile))
                for name, profile in d.items()
            }
        )

    @staticmethod
    def load(
        *,
        config_source: DataSource | None = None,
        config_file_strict: bool = False,
        override_env_vars: Mapping[str, str] | None = None,
    ) -> ClientConfig:
        """Read all profiles of a file. Variables other than `TEMPORAL_CONFIG_FILE` are not looked at.

        Args:
            config_source: The file or its content; None means the default file, which need not exist.
            config_file_strict: Unknown settings are an error.
            override_env_vars: Variables to look at instead of the process's.

        Raises:
            ConfigError: A setting is wrong.
        """
        variables = os.environ if override_env_vars is None else override_env_vars
        return ClientConfig.from_dict(_read_profiles(config_source, config_file_strict, variables))

    @staticmethod
    def load_client_connect_config(
        profile: str | None = None,
        *,
        config_file: str | None = None,
        disable_file: bool = False,
        disable_env: bool = False,
        config_file_strict: bool = False,
        override_env_vars: Mapping[str, str] | None = None,
    ) -> ClientConnectConfig:
        """Read one profile and return arguments for `Client.connect`.

        Args:
            profile: Its name; see `ClientConfigProfile.load`.
            config_file: Path of the file; None means the default file.
            disable_file: Read no file.
            disable_env: Look at no variables.
            config_file_strict: Unknown settings are an error.
            override_env_vars: Variables to look at instead of the process's.

        Raises:
            ConfigError: The profile does not exist, or a setting is wrong.
            OSError: A file with a certificate or key cannot be read.
        """
        return ClientConfigProfile.load(
            profile,
            config_source=Path(config_file) if config_file and not disable_file else None,
            disable_file=disable_file,
            disable_env=disable_env,
            config_file_strict=config_file_strict,
            override_env_vars=override_env_vars,
        ).to_client_connect_config()


def _read_profiles(
    source: DataSource | None, strict: bool, variables: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Read a file and return its profiles, checked, as dictionaries like those of `to_dict`."""
    data, path = _config_data(source, variables)
    try:
        return _profiles_of(data, strict)
    except ConfigError as error:
        if path is None:
            raise
        raise ConfigError(f"{error} (in {path})") from error


def _profiles_of(data: bytes, strict: bool) -> dict[str, dict[str, Any]]:
    try:
        content = tomllib.loads(data.decode("utf-8-sig"))  # Windows' editors begin files with a mark
    except UnicodeDecodeError as error:
        raise ConfigError(f"Configuration loading error: the file is not UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"Configuration loading error: TOML parse error: {error}") from error
    _check(content, {"profile": dict}, strict, "")
    profiles: dict[str, dict[str, Any]] = {}
    for name, settings in content.get("profile", {}).items():
        where = f"profile.{name}"
        _check({name: settings}, {name: dict}, strict, "profile")
        _check(settings, _PROFILE_TYPES, strict, where)
        _check(settings.get("codec", {}), _CODEC_TYPES, strict, f"{where}.codec")
        profiles[name] = {
            key: settings[key] for key in ("address", "namespace", "api_key") if key in settings
        }
        if "tls" in settings:
            _check(settings["tls"], _TLS_TYPES, strict, f"{where}.tls")
            profiles[name]["tls"] = _tls_of_file(settings["tls"])
        meta = settings.get("grpc_meta", {})
        _check(meta, dict.fromkeys(meta, str), strict, f"{where}.grpc_meta")
        if meta:
            profiles[name]["grpc_meta"] = {_meta_key(key): value for key, value in meta.items()}
    return profiles


def _config_data(source: DataSource | None, variables: Mapping[str, str]) -> tuple[bytes, Path | None]:
    """What is read, and from which file; None for what was given as it is."""
    if isinstance(source, str):
        return source.encode(), None
    if isinstance(source, bytes):
        return source, None
    if source is None:
        named = variables.get("TEMPORAL_CONFIG_FILE")
        path = Path(named) if named else _default_path()
    elif isinstance(source, Path):
        path = source
    else:
        raise TypeError(
            f"config_source must be one of pathlib.Path, str, bytes, or None, but got {type(source).__name__}"
        )
    try:
        return path.read_bytes(), path
    except FileNotFoundError:
        # A file that is not there has no profiles.
        return b"", path
    except OSError as error:
        raise ConfigError(f"Configuration loading error: {error}") from error


def _default_path() -> Path:
    if sys.platform == "darwin":
        directory = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        directory = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    else:
        configured = os.environ.get("XDG_CONFIG_HOME", "")
        directory = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    return directory / "temporalio" / "temporal.toml"


def _check(settings: Mapping[str, Any], types: Mapping[str, type], strict: bool, where: str) -> None:
    """Check the settings of one table.

    Raises:
        ConfigError: One has the wrong type, or is unknown and that is an error.
    """
    for name, value in settings.items():
        wanted = types.get(name)
        place = f" in [{where}]" if where else ""
        if wanted is None:
            if strict:
                known = ", ".join(f"`{known}`" for known in types)
                raise ConfigError(
                    f"Configuration loading error: unknown field `{name}`{place}, expected one of {known}"
                )
        elif not isinstance(value, wanted):
            raise ConfigError(
                f"Configuration loading error: invalid type of `{name}`{place}: "
                f"{type(value).__name__}, expected {wanted.__name__}"
            )


def _tls_of_file(settings: Mapping[str, Any]) -> dict[str, Any]:
    tls: dict[str, Any] = {key: settings[key] for key in ("disabled", "server_name") if key in settings}
    for name in _TLS_SOURCES:
        path, data = settings.get(f"{name}_path"), settings.get(f"{name}_data")
        if path is not None and data is not None:
            raise ConfigError(f"Invalid configuration: Cannot specify both {name}_path and {name}_data")
        if path is not None:
            tls[name] = {"path": path}
        elif data:
            tls[name] = {"data": data.encode()}
    # Said so, even if it says nothing: that means TLS with defaults.
    return tls or {"disabled": None}


def _apply_variables(settings: dict[str, Any], variables: Mapping[str, str]) -> None:
    for key, name in (
        ("address", "TEMPORAL_ADDRESS"),
        ("namespace", "TEMPORAL_NAMESPACE"),
        ("api_key", "TEMPORAL_API_KEY"),
    ):
        if name in variables:
            settings[key] = variables[name]
    if "tls" in settings or any(name in variables for name in _TLS_VARIABLES):
        _apply_tls_variables(settings.setdefault("tls", {"disabled": None}), variables)
    meta = settings.setdefault("grpc_meta", {})
    for name, value in variables.items():
        if name.startswith(_GRPC_META_PREFIX):
            key = _meta_key(name.removeprefix(_GRPC_META_PREFIX))
            # An empty value removes what the file says.
            if value:
                meta[key] = value
            else:
                meta.pop(key, None)


def _apply_tls_variables(tls: dict[str, Any], variables: Mapping[str, str]) -> None:
    wanted = _BOOLEANS.get(variables.get("TEMPORAL_TLS", "").lower())
    if wanted is not None:
        tls["disabled"] = not wanted
    if "TEMPORAL_TLS_SERVER_NAME" in variables:
        tls["server_name"] = variables["TEMPORAL_TLS_SERVER_NAME"]
    for key, (what, stem) in _TLS_SOURCE_VARIABLES.items():
        given = {
            kind: f"{stem}_{kind.upper()}"
            for kind in ("path", "data")
            if f"{stem}_{kind.upper()}" in variables
        }
        if len(given) == 2:
            raise ConfigError(
                f"Invalid configuration: Cannot specify both {given['path']} and {given['data']}"
            )
        for kind, name in given.items():
            other = "data" if kind == "path" else "path"
            if other in tls.get(key, {}):
                raise ConfigError(
                    f"Invalid configuration: Cannot specify {what} {kind} via {name} "
                    f"when {what} {other} is already specified"
                )
            tls[key] = {kind: variables[name] if kind == "path" else variables[name].encode()}


def _meta_key(name: str) -> str:
    return name.lower().replace("_", "-")


def _dict_to_source(settings: Mapping[str, Any] | None) -> DataSource | None:
    if not settings:
        return None
    if "data" in settings:
        return cast(DataSource, settings["data"])
    return Path(settings["path"]) if "path" in settings else None


def _source_to_dict(source: DataSource | None) -> Mapping[str, str] | None:
    if isinstance(source, Path):
        return {"path": str(source)}
    if isinstance(source, bytes):
        return {"data": source.decode()}
    return None if source is None else {"data": source}


def _read_source(source: DataSource | None, name: str) -> bytes | None:
    if isinstance(source, Path):
        try:
            return source.read_bytes()
        except OSError as error:
            _, stem = _TLS_SOURCE_VARIABLES[name]
            setting = f"{error.strerror}; it is {name}_path of the profile, or {stem}_PATH"
            raise OSError(error.errno, setting, str(source)) from error
    if isinstance(source, str):
        return source.encode()
    if source is None or isinstance(source, bytes):
        return source
    raise TypeError(f"Source must be one of pathlib.Path, str, or bytes, but got {type(source).__name__}")
