"""Configuration from TOML and the environment: which setting wins, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure.envconfig import ClientConfig, ClientConfigProfile, ClientConfigTLS, ConfigError
from perdure.service import TLSConfig

FILE = """
[profile.default]
address = "file:1"
namespace = "from-file"
[profile.default.grpc_meta]
Some_Key = "file"
other = "kept"
[profile.cloud]
address = "cloud:7233"
api_key = "key"
[profile.secure.tls]
server_name = "name"
client_cert_data = "cert"
client_key_data = "secret"
"""


def _load(name: str | None = None, source: Any = FILE, **options: Any) -> ClientConfigProfile:
    options.setdefault("override_env_vars", {})
    return ClientConfigProfile.load(name, config_source=source, **options)


def test_the_environment_overrides_the_file() -> None:
    """Setting by setting; an empty value of metadata removes what the file says."""
    variables = {
        "TEMPORAL_ADDRESS": "env:2",
        "TEMPORAL_GRPC_META_SOME_KEY": "",
        "TEMPORAL_GRPC_META_NEW_KEY": "env",
    }
    profile = _load(override_env_vars=variables)
    assert (profile.address, profile.namespace) == ("env:2", "from-file")
    assert profile.grpc_meta == {"other": "kept", "new-key": "env"}
    assert _load(override_env_vars=variables, disable_env=True).address == "file:1"


def test_the_profile_is_that_asked_for_then_that_of_the_environment_then_default() -> None:
    """Only the default one may be missing."""
    variables = {"TEMPORAL_PROFILE": "cloud"}
    assert _load(override_env_vars=variables).address == "cloud:7233"
    assert _load("default", override_env_vars=variables).address == "file:1"
    assert _load(source="").address is None
    with pytest.raises(ConfigError, match="Profile 'nowhere' not found"):
        _load("nowhere")


def test_an_api_key_turns_tls_on_and_files_of_certificates_are_read(tmp_path: Path) -> None:
    """What `to_client_connect_config` returns can be given to `Client.connect` as it is."""
    config = _load("cloud").to_client_connect_config()
    assert config == {"target_host": "cloud:7233", "api_key": "key", "tls": True}
    certificate = tmp_path / "ca.pem"
    certificate.write_bytes(b"ca")
    variables = {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(certificate)}
    tls = _load("secure", override_env_vars=variables).to_client_connect_config()["tls"]
    assert tls == TLSConfig(
        domain="name", client_cert=b"cert", client_private_key=b"secret", server_root_ca_cert=b"ca"
    )
    off = _load("secure", override_env_vars={"TEMPORAL_TLS": "false"})
    assert off.to_client_connect_config()["tls"] is False


def test_the_default_file_is_named_by_the_environment(tmp_path: Path) -> None:
    """And need not exist."""
    path = tmp_path / "temporal.toml"
    variables = {"TEMPORAL_CONFIG_FILE": str(path)}
    assert ClientConfig.load(override_env_vars=variables).profiles == {}
    path.write_text(FILE)
    assert set(ClientConfig.load(override_env_vars=variables).profiles) == {"default", "cloud", "secure"}
    config = ClientConfig.load_client_connect_config(config_file=str(path), override_env_vars={})
    assert config["target_host"] == "file:1"


def test_a_profile_of_an_empty_name_is_one() -> None:
    """Only a variable that is empty names none; as in the official SDK."""
    source = '[profile.default]\naddress = "a:1"\n[profile.""]\naddress = "b:1"\n'
    assert ClientConfigProfile.load("", config_source=source, override_env_vars={}).address == "b:1"
    variables = {"TEMPORAL_PROFILE": ""}
    assert ClientConfigProfile.load(config_source=source, override_env_vars=variables).address == "a:1"
    with pytest.raises(ConfigError, match="Profile '' not found"):
        ClientConfigProfile.load("", config_source="", override_env_vars={})


@pytest.mark.parametrize("text", ["not toml", "[profile.default]\naddress = 1", b"\xff"])
def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path: Path, text: str | bytes) -> None:
    """Which of the files that are looked for it was is not plain."""
    path = tmp_path / "temporal.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError, match=r"temporal\.toml"):
        ClientConfigProfile.load(override_env_vars={"TEMPORAL_CONFIG_FILE": str(path)})


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("not toml", {}, "TOML parse error"),
        (
            "[profile.default]\nnope = 1",
            {"config_file_strict": True},
            r"unknown field `nope` in \[profile.default\]",
        ),
        ("[other]\nx = 1", {"config_file_strict": True}, "unknown field `other`"),
        ("[profile.default]\naddress = 1", {}, "invalid type of `address`"),
        (
            "[profile.default.tls]\ndisabled = 'x'",
            {},
            r"`disabled` in \[profile.default.tls\]: str, expected bool",
        ),
        ("[profile]\ndefault = 3", {}, "invalid type of `default`"),
        (
            "[profile.default.tls]\nclient_cert_path = 'a'\nclient_cert_data = 'b'",
            {},
            "both client_cert_path and client_cert_data",
        ),
        (FILE, {"disable_file": True, "disable_env": True}, "Cannot disable both"),
        (
            FILE,
            {"override_env_vars": {"TEMPORAL_TLS_CLIENT_KEY_PATH": "a", "TEMPORAL_TLS_CLIENT_KEY_DATA": "b"}},
            "both TEMPORAL_TLS_CLIENT_KEY_PATH and TEMPORAL_TLS_CLIENT_KEY_DATA",
        ),
    ],
)
def test_a_wrong_configuration_names_what_is_wrong(
    source: str, options: dict[str, Any], message: str
) -> None:
    """As a RuntimeError, which is what the official SDK's users catch."""
    with pytest.raises(RuntimeError, match=message):
        _load(source=source, **options)


def test_a_variable_cannot_replace_a_path_by_data() -> None:
    """Nobody could tell which one is meant."""
    variables = {"TEMPORAL_TLS_CLIENT_CERT_PATH": "/x"}
    with pytest.raises(ConfigError, match="cert path via TEMPORAL_TLS_CLIENT_CERT_PATH when cert data is"):
        _load("secure", override_env_vars=variables)


def test_a_file_may_begin_with_the_mark_of_windows_editors() -> None:
    assert _load(source="\ufeff" + FILE).address == "file:1"


def test_profiles_become_dictionaries_and_back() -> None:
    """Nothing is lost on the way."""
    profile = ClientConfigProfile(
        address="a:1",
        namespace="n",
        api_key="k",
        tls=ClientConfigTLS(
            disabled=False, server_name="s", server_root_ca_cert=Path("/ca"), client_cert="c"
        ),
        grpc_meta={"k": "v"},
    )
    config = ClientConfig({"p": profile, "empty": ClientConfigProfile()})
    assert ClientConfig.from_dict(config.to_dict()) == config
