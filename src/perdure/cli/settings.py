"""From flags, environment variables and files to what a command works with: connection, output, limits.

What wins, first to last: a flag, the env file's environment (`--env`), a variable, the profile of the configuration
file, a default. No command and no connection lives here.
"""

from __future__ import annotations

import getpass
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from perdure.cli.errors import CommandError, WrongUsageError

if TYPE_CHECKING:
    from perdure.envconfig import ClientConfigProfile
    from perdure.service import ConnectConfig

DEFAULT_ADDRESS: Final = "localhost:7233"
DEFAULT_NAMESPACE: Final = "default"

_OLD_TLS: Final = {
    "TEMPORAL_TLS_CERT": "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CERT_DATA": "TEMPORAL_TLS_CLIENT_CERT_DATA",
    "TEMPORAL_TLS_KEY": "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_KEY_DATA": "TEMPORAL_TLS_CLIENT_KEY_DATA",
    "TEMPORAL_TLS_CA": "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "TEMPORAL_TLS_CA_DATA": "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
}
"""Names of variables that were used before, and the present ones."""

_TLS_SOURCES: Final = {
    "client_cert": ("tls_cert_path", "tls_cert_data"),
    "client_private_key": ("tls_key_path", "tls_key_data"),
    "server_root_ca_cert": ("tls_ca_path", "tls_ca_data"),
}
"""Field of a profile's TLS settings to the flags with a path and with the content."""

_PEM: Final = b"-----BEGIN "

_NO_UNCHECKED_TLS: Final = (
    "--tls-disable-host-verification is not offered: give the server's certificate with --tls-ca-path and the name in "
    "it with --tls-server-name"
)

_HALF_A_PAIR: Final = (
    "a client's certificate and its key go together: give --tls-cert-path and --tls-key-path, "
    "or --tls-cert-data and --tls-key-data"
)


@dataclass(frozen=True)
class Codec:
    """A codec server: where it is, and what is sent to it besides the payloads."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What a command was told besides its own flags.

    Attributes:
        given: flags of all levels, by name with underscores.
        variables: the environment.
    """

    given: Mapping[str, Any]
    variables: Mapping[str, str]

    @property
    def output(self) -> str:
        """`text`, `json`, `jsonl` or `none`."""
        return str(self.given.get("output", "text"))

    @property
    def time_format(self) -> str:
        """`relative`, `iso` or `raw`."""
        return str(self.given.get("time_format", "relative"))

    @property
    def has_short_payloads(self) -> bool:
        """Whether JSON shows payloads as values."""
        return not self.given.get("no_json_shorthand_payloads")

    @property
    def command_timeout_s(self) -> float | None:
        """Limit of the command, seconds."""
        return self._seconds("command_timeout")

    @property
    def connect_timeout_s(self) -> float | None:
        """Limit of connecting, seconds."""
        return self._seconds("client_connect_timeout")

    @property
    def identity(self) -> str:
        """Who the server is told that asks."""
        return str(self.given.get("identity") or f"perdure-cli:{user()}@{socket.gethostname()}")

    @property
    def config_file(self) -> Path:
        """The configuration file, which need not exist."""
        from perdure.envconfig import _default_path

        named = self.given.get("config_file") or self.variables.get("TEMPORAL_CONFIG_FILE")
        return Path(named) if named else _default_path()

    @property
    def profile_name(self) -> str:
        """The profile's name."""
        return str(self.given.get("profile") or self.variables.get("TEMPORAL_PROFILE") or "default")

    def _seconds(self, name: str) -> float | None:
        limit: timedelta | None = self.given.get(name)
        return limit.total_seconds() if limit else None

    def file_profile(self) -> Mapping[str, Any]:
        """The profile's table in the configuration file, empty without one."""
        if self.given.get("disable_config_file"):
            return {}
        found = read_profiles(self.config_file).get(self.profile_name, {})
        return found if isinstance(found, dict) else {}

    def connection(self) -> Connection:
        """Where to connect and how.

        Raises:
            CommandError: the configuration cannot be read, or contradicts itself.
        """
        from perdure.envconfig import ConfigError

        try:
            return _connection(self, _profile(self))
        except (ConfigError, OSError) as error:
            raise CommandError(f"the configuration cannot be used: {error}") from error


@dataclass(frozen=True)
class Connection:
    """Where to connect and how, with everything taken into account."""

    config: ConnectConfig
    namespace: str
    codec: Codec | None


def user() -> str:
    """Who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown-user"


def read_profiles(path: Path) -> dict[str, Any]:
    """The profiles of a configuration file as it is; empty if there is no such file.

    Raises:
        CommandError: it cannot be read or is no TOML.
    """
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    profiles = parsed.get("profile", {})
    return profiles if isinstance(profiles, dict) else {}


def _profile(settings: Settings) -> ClientConfigProfile:
    """The profile with variables on top, without flags."""
    from perdure.envconfig import ClientConfigProfile

    given = settings.given
    no_file, no_env = bool(given.get("disable_config_file")), bool(given.get("disable_config_env"))
    if no_file and no_env:
        return ClientConfigProfile()
    variables = dict(settings.variables)
    for old, new in _OLD_TLS.items():
        if variables.get(old):
            variables[new] = variables[old]
    named = given.get("config_file")
    return ClientConfigProfile.load(
        given.get("profile") or None,
        config_source=Path(named) if named and not no_file else None,
        disable_file=no_file,
        disable_env=no_env,
        override_env_vars=variables,
    )


def _connection(settings: Settings, profile: ClientConfigProfile) -> Connection:
    from perdure.service import ConnectConfig

    given = settings.given
    if given.get("tls_disable_host_verification"):
        raise WrongUsageError(_NO_UNCHECKED_TLS)
    namespace = str(given.get("namespace") or profile.namespace or DEFAULT_NAMESPACE)
    address = str(given.get("address") or profile.address or DEFAULT_ADDRESS)
    is_embedded = "://" in address
    meta = {**profile.grpc_meta, **pairs(given.get("grpc_meta", ()), "--grpc-meta")}
    limit = settings.connect_timeout_s
    config = ConnectConfig(
        target_host=address.replace("${namespace}", namespace),
        api_key=given.get("api_key") or profile.api_key or None,
        tls=None if is_embedded else _tls(settings, profile),
        rpc_metadata={key.lower(): value for key, value in meta.items()},
        identity=settings.identity,
        connect_timeout=timedelta(seconds=limit) if limit else None,
    )
    return Connection(config, namespace, _codec(settings, namespace))


def _tls(settings: Settings, profile: ClientConfigProfile) -> Any:
    """What `ConnectConfig.tls` takes."""
    from perdure.envconfig import ClientConfigTLS
    from perdure.service import TLSConfig

    given = settings.given
    if given.get("tls") is False:
        return False
    flags: dict[str, str] = {}
    for name, (path, data) in _TLS_SOURCES.items():
        if given.get(path) or given.get(data):
            flags[name] = path if given.get(path) else data
    tls = profile.tls
    if given.get("tls") or flags or given.get("tls_server_name"):
        tls = replace(tls or ClientConfigTLS(), disabled=False)
    authority = given.get("client_authority") or settings.file_profile().get("authority")
    if tls is None and not authority:
        return None
    if authority and (tls is None or tls.disabled):
        raise WrongUsageError("--client-authority needs TLS: without it the authority is the address")
    tls = tls or ClientConfigTLS()
    # What a flag takes the place of is not read.
    made = replace(tls, **dict.fromkeys(flags)).to_connect_tls_config()
    made = TLSConfig() if made is True else made
    if not isinstance(made, TLSConfig):
        return made
    for name, flag in flags.items():
        setattr(made, name, _content(flag, str(given[flag])))
    if (made.client_cert is None) != (made.client_private_key is None):
        raise WrongUsageError(_HALF_A_PAIR)
    for name in _TLS_SOURCES:
        if _PEM not in (getattr(made, name) or _PEM):
            where = (
                _flag(flags[name]) if name in flags else f"what the profile or the variables give for {name}"
            )
            raise WrongUsageError(f"{where} must be in PEM form, and holds no {_PEM.decode()}")
    made.domain = given.get("tls_server_name") or authority or made.domain
    return made


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _content(flag: str, value: str) -> bytes:
    """What a flag with the path or the content of a certificate or key gives."""
    if not flag.endswith("_path"):
        return value.encode()
    try:
        return Path(value).read_bytes()
    except OSError as error:
        raise WrongUsageError(f"{_flag(flag)} {value} cannot be read: {error.strerror}") from error


def _codec(settings: Settings, namespace: str) -> Codec | None:
    given, table = settings.given, settings.file_profile().get("codec", {})
    variables = {} if given.get("disable_config_env") else settings.variables
    endpoint = (
        given.get("codec_endpoint") or variables.get("TEMPORAL_CODEC_ENDPOINT") or table.get("endpoint")
    )
    if not endpoint:
        return None
    if not str(endpoint).startswith(("http://", "https://")):
        raise WrongUsageError(f"the codec endpoint {endpoint} is no http address")
    headers = {"X-Namespace": namespace, **pairs(given.get("codec_header", ()), "--codec-header")}
    auth = given.get("codec_auth") or variables.get("TEMPORAL_CODEC_AUTH") or table.get("auth")
    if auth:
        headers["Authorization"] = str(auth)
    return Codec(str(endpoint).replace("{namespace}", namespace), headers)


def pairs(values: Any, flag: str) -> dict[str, str]:
    """Texts `KEY=VALUE` as a mapping.

    Raises:
        WrongUsageError: one has no `=`.
    """
    found = {}
    for value in values:
        key, separator, rest = value.partition("=")
        if not separator or not key:
            raise WrongUsageError(f"{flag} {value!r} must be KEY=VALUE")
        found[key] = rest
    return found


def of_process(given: Mapping[str, Any]) -> Settings:
    """The settings of this process."""
    return Settings(given, os.environ)
