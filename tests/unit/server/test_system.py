"""What the server says of itself comes from its configuration and its store."""

from __future__ import annotations

from dataclasses import replace

from perdure.api.workflowservice.v1 import GetClusterInfoRequest, GetSystemInfoRequest
from perdure.server.config import Capabilities, ServerConfig
from perdure.server.service.system import System
from perdure.store.memory import MemoryStore
from tests.unit.server.support import CALL, run


def test_system_info_reports_the_configured_capabilities_and_nothing_else() -> None:
    config = ServerConfig(capabilities=replace(Capabilities(), nexus=True, upsert_memo=False))
    answer = run(System(MemoryStore(), config, "memory").get_system_info(GetSystemInfoRequest(), CALL))
    reported = {
        field.name: getattr(answer.capabilities, field.name)
        for field in answer.capabilities.DESCRIPTOR.fields
    }
    assert reported == {name: getattr(config.capabilities, name) for name in reported}
    assert reported["nexus"]
    assert not reported["upsert_memo"]
    assert answer.server_version == config.server_version


def test_cluster_info_reports_the_identity_of_the_database() -> None:
    store = MemoryStore("5f3f3c0e-6f5c-4a58-8d8e-0c6c5e0f9a11")
    answer = run(System(store, ServerConfig(), "sqlite").get_cluster_info(GetClusterInfoRequest(), CALL))
    assert answer.cluster_id == "5f3f3c0e-6f5c-4a58-8d8e-0c6c5e0f9a11"
    assert answer.cluster_name == "active"
    assert (answer.persistence_store, answer.visibility_store) == ("sqlite", "sqlite")
    assert answer.supported_clients["temporal-cli"] == "<2.0.0"
    assert answer.supported_clients["Nexus-go-sdk"] == "<2.0.0"
