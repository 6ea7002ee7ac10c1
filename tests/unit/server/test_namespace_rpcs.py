"""Namespaces over RPCs: what they say, what changes, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.api.namespace.v1 import BadBinaries, BadBinaryInfo, NamespaceConfig, UpdateNamespaceInfo
from perdure.api.operatorservice.v1 import DeleteNamespaceRequest
from perdure.api.protobuf import Duration
from perdure.api.replication.v1 import ClusterReplicationConfig, NamespaceReplicationConfig
from perdure.api.workflowservice.v1 import (
    DeprecateNamespaceRequest,
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    ListNamespacesRequest,
    RegisterNamespaceRequest,
    UpdateNamespaceRequest,
)
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NamespaceAlreadyExistsError,
    NamespaceInvalidStateError,
    NamespaceNotFoundError,
)
from perdure.core.visibility import AttributeType
from perdure.server.config import Capabilities, ServerConfig
from perdure.server.namespaces import (
    DELETED,
    DEPRECATED,
    REGISTERED,
    STARTABLE_STATES,
    Namespace,
    Namespaces,
)
from perdure.server.nexus_endpoints import Endpoint, NexusEndpoints
from perdure.server.runtime import SystemRuntime
from perdure.server.service.namespace_rpcs import (
    MAX_BAD_BINARIES,
    NamespaceRpcs,
    aliases,
    with_aliases,
)
from perdure.store.memory import MemoryStore
from tests.unit.server.support import CALL, DAY_S, make_namespaces, run

_HANDOVER = 2


def _days(number: float) -> Duration:
    return Duration(seconds=int(number * DAY_S))


class Setup:
    """Handlers over an in-memory store; `deleted` collects what is to be removed in the background."""

    def __init__(
        self, store: MemoryStore, namespaces: Namespaces, config: ServerConfig | None = None
    ) -> None:
        self.deleted: list[Namespace] = []
        self.namespaces = namespaces
        self.endpoints = NexusEndpoints(store)
        namespaces.on_removal = self.deleted.append
        self.rpcs = NamespaceRpcs(namespaces, config or ServerConfig(), SystemRuntime(), self.endpoints)

    async def describe(self, name: str) -> DescribeNamespaceResponse:
        """DescribeNamespace by name."""
        return await self.rpcs.describe_namespace(DescribeNamespaceRequest(namespace=name), CALL)


async def _setup(*names: str, config: ServerConfig | None = None) -> Setup:
    return Setup(*await make_namespaces(*names), config)


def test_a_namespace_that_an_endpoint_leads_to_is_not_deleted() -> None:
    """Operations of other namespaces would fail from one moment to the next, for a reason that nobody sees."""

    async def scenario() -> None:
        setup = await _setup("target")
        namespace_id = setup.namespaces.get("target").namespace_id
        endpoint = await setup.endpoints.create(Endpoint("id", "payments", 0, None, namespace_id, "q", "", 1))
        with pytest.raises(FailedPreconditionError, match="target of a Nexus endpoint payments"):
            await setup.rpcs.delete_namespace(DeleteNamespaceRequest(namespace="target"), CALL)
        assert setup.deleted == []
        await setup.endpoints.delete(endpoint.endpoint_id)
        await setup.rpcs.delete_namespace(DeleteNamespaceRequest(namespace="target"), CALL)
        assert len(setup.deleted) == 1

    run(scenario())


def test_a_registered_namespace_is_described_as_given_by_name_and_by_id_and_survives_a_restart() -> None:
    async def scenario() -> None:
        store, namespaces = await make_namespaces()
        setup = Setup(store, namespaces)
        await setup.rpcs.register_namespace(
            RegisterNamespaceRequest(
                namespace="orders",
                description="all orders",
                owner_email="a@b.example",
                data={"team": "x"},
                workflow_execution_retention_period=_days(3),
            ),
            CALL,
        )
        answer = await setup.describe("orders")
        info = answer.namespace_info
        assert (info.name, info.description, info.owner_email) == ("orders", "all orders", "a@b.example")
        assert dict(info.data) == {"team": "x"}
        assert info.state == REGISTERED
        assert answer.config.workflow_execution_retention_ttl == _days(3)
        assert answer.replication_config.active_cluster_name == "active"
        by_id = await setup.rpcs.describe_namespace(DescribeNamespaceRequest(id=info.id), CALL)
        assert by_id == answer

        again = Namespaces(store)
        await again.load()
        assert await Setup(store, again).describe("orders") == answer

    run(scenario())


def test_description_reports_capabilities_and_limits_of_the_configuration() -> None:
    async def scenario() -> None:
        config = ServerConfig(capabilities=Capabilities(workflow_pause=True))
        setup = await _setup(config=config)
        info = (await setup.describe("default")).namespace_info
        reported = {
            field.name: getattr(info.capabilities, field.name)
            for field in info.capabilities.DESCRIPTOR.fields
        }
        assert reported == {name: getattr(config.capabilities, name) for name in reported}
        assert reported["workflow_pause"]
        assert info.limits.blob_size_limit_error == config.limits.blob_bytes
        assert info.limits.memo_size_limit_error == config.limits.memo_bytes

    run(scenario())


_BAD_REGISTRATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"namespace": ""}, "Namespace not set on request."),
    "long name": ({"namespace": "é" * 501}, "Namespace length exceeds limit."),
    "no retention": (
        {"workflow_execution_retention_period": None},
        "A valid retention period is not set on request.",
    ),
    "short retention": (
        {"workflow_execution_retention_period": Duration(seconds=3599)},
        "A valid retention period is not set on request.",
    ),
    "negative retention": (
        {"workflow_execution_retention_period": Duration(seconds=-DAY_S)},
        "A valid retention period is not set on request.",
    ),
    "global": ({"is_global_namespace": True}, "Cannot register global namespace when not enabled"),
    "other cluster": ({"active_cluster_name": "mars"}, "Invalid cluster name: mars"),
    "other clusters": (
        {"clusters": [ClusterReplicationConfig(cluster_name="mars")]},
        "Invalid cluster name: mars",
    ),
}


@pytest.mark.parametrize("case", _BAD_REGISTRATIONS)
def test_a_bad_registration_is_refused(case: str) -> None:
    fields, message = _BAD_REGISTRATIONS[case]

    async def scenario() -> None:
        setup = await _setup()
        base: dict[str, Any] = {"namespace": "new", "workflow_execution_retention_period": _days(1)}
        with pytest.raises(InvalidArgumentError) as caught:
            await setup.rpcs.register_namespace(RegisterNamespaceRequest(**(base | fields)), CALL)
        assert str(caught.value) == message
        assert not setup.namespaces.has("new")

    run(scenario())


def test_a_name_is_registered_once() -> None:
    async def scenario() -> None:
        setup = await _setup()
        request = RegisterNamespaceRequest(namespace="default", workflow_execution_retention_period=_days(1))
        with pytest.raises(NamespaceAlreadyExistsError, match='Namespace "default" already exists'):
            await setup.rpcs.register_namespace(request, CALL)

    run(scenario())


def test_describing_needs_one_of_name_and_id_that_exists() -> None:
    async def scenario() -> None:
        setup = await _setup()
        describe = setup.rpcs.describe_namespace
        with pytest.raises(InvalidArgumentError):
            await describe(DescribeNamespaceRequest(), CALL)
        with pytest.raises(InvalidArgumentError, match="Both ID and Name specified"):
            await describe(DescribeNamespaceRequest(namespace="default", id="x"), CALL)
        with pytest.raises(NamespaceNotFoundError, match="Namespace gone is not found"):
            await describe(DescribeNamespaceRequest(namespace="gone"), CALL)
        with pytest.raises(NamespaceNotFoundError, match="Namespace not-even-a-uuid is not found"):
            await describe(DescribeNamespaceRequest(id="not-even-a-uuid"), CALL)

    run(scenario())


def test_pages_of_the_list_hold_every_namespace_once_in_order() -> None:
    async def scenario() -> None:
        names = [f"n{number}" for number in range(5)]
        setup = await _setup(*names)
        seen: list[str] = []
        token = b""
        while True:
            page = await setup.rpcs.list_namespaces(
                ListNamespacesRequest(page_size=2, next_page_token=token), CALL
            )
            assert 1 <= len(page.namespaces) <= 2
            seen += [described.namespace_info.name for described in page.namespaces]
            token = page.next_page_token
            if not token:
                break
        assert seen == ["default", *names]
        with pytest.raises(InvalidArgumentError):
            await setup.rpcs.list_namespaces(ListNamespacesRequest(page_size=-1), CALL)

    run(scenario())


def test_an_update_changes_what_it_sets_and_merges_maps() -> None:
    async def scenario() -> None:
        setup = await _setup()
        await setup.rpcs.update_namespace(
            UpdateNamespaceRequest(
                namespace="default", update_info=UpdateNamespaceInfo(description="one", data={"a": "1"})
            ),
            CALL,
        )
        answer = await setup.rpcs.update_namespace(
            UpdateNamespaceRequest(
                namespace="default",
                update_info=UpdateNamespaceInfo(owner_email="o", data={"b": "2"}),
                config=NamespaceConfig(
                    workflow_execution_retention_ttl=_days(9),
                    bad_binaries=BadBinaries(binaries={"sum": BadBinaryInfo(reason="broken")}),
                ),
            ),
            CALL,
        )
        described = await setup.describe("default")
        assert answer.namespace_info == described.namespace_info
        assert answer.config == described.config
        info = described.namespace_info
        assert (info.description, info.owner_email, dict(info.data)) == ("one", "o", {"a": "1", "b": "2"})
        assert described.config.workflow_execution_retention_ttl == _days(9)
        binary = described.config.bad_binaries.binaries["sum"]
        assert binary.reason == "broken"
        assert binary.create_time.seconds > 0
        assert setup.namespaces.get("default").retention_ns == 9 * DAY_S * 10**9

        await setup.rpcs.update_namespace(
            UpdateNamespaceRequest(namespace="default", delete_bad_binary="sum"), CALL
        )
        assert not (await setup.describe("default")).config.bad_binaries.binaries

    run(scenario())


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    async def scenario() -> None:
        setup = await _setup()
        before = setup.namespaces.get("default")
        await setup.rpcs.update_namespace(UpdateNamespaceRequest(namespace="default"), CALL)
        assert setup.namespaces.get("default") is before

    run(scenario())


_NOT_GLOBAL = (
    "global namespace is not enabled on this cluster, cannot update global namespace or promote local "
    "namespace: default"
)
_BAD_UPDATES: dict[str, tuple[dict[str, Any], str]] = {
    "retention": (
        {"config": NamespaceConfig(workflow_execution_retention_ttl=Duration(seconds=1))},
        "A valid retention period is not set on request.",
    ),
    "unknown bad binary": ({"delete_bad_binary": "x"}, "Bad binary checksum x doesn't exists."),
    "too many bad binaries": (
        {
            "config": NamespaceConfig(
                bad_binaries=BadBinaries(
                    binaries={str(n): BadBinaryInfo() for n in range(MAX_BAD_BINARIES + 1)}
                )
            )
        },
        "Total resetBinaries cannot exceed the max limit: 10",
    ),
    "promotion": (
        {"promote_namespace": True},
        _NOT_GLOBAL,
    ),
    "unknown state": (
        {"update_info": {"state": 77}},
        "Invalid namespace state update.",
    ),
    "other cluster": (
        {"replication_config": NamespaceReplicationConfig(active_cluster_name="mars")},
        "Invalid cluster name: mars",
    ),
    "handover": (
        {"replication_config": {"state": _HANDOVER}},
        "Handover can only be set for global namespace",
    ),
    "no such column": (
        {"config": NamespaceConfig(custom_search_attribute_aliases={"Colour1": "X"})},
        "Search attribute Colour1 doesn't exist.",
    ),
}


@pytest.mark.parametrize("case", _BAD_UPDATES)
def test_a_bad_update_is_refused_and_changes_nothing(case: str) -> None:
    fields, message = _BAD_UPDATES[case]

    async def scenario() -> None:
        setup = await _setup()
        before = await setup.describe("default")
        with pytest.raises(InvalidArgumentError) as caught:
            await setup.rpcs.update_namespace(UpdateNamespaceRequest(namespace="default", **fields), CALL)
        assert str(caught.value) == message
        assert await setup.describe("default") == before

    run(scenario())


def test_a_deprecated_namespace_cannot_be_registered_again_by_an_update() -> None:
    async def scenario() -> None:
        setup = await _setup()
        await setup.rpcs.deprecate_namespace(DeprecateNamespaceRequest(namespace="default"), CALL)
        assert (await setup.describe("default")).namespace_info.state == DEPRECATED
        back: Any = {"state": REGISTERED}
        with pytest.raises(InvalidArgumentError, match="Invalid namespace state update"):
            await setup.rpcs.update_namespace(
                UpdateNamespaceRequest(namespace="default", update_info=back), CALL
            )

    run(scenario())


def test_deleting_frees_the_name_at_once_and_asks_for_removal() -> None:
    async def scenario() -> None:
        setup = await _setup("old")
        namespace_id = setup.namespaces.get("old").namespace_id
        answer = await setup.rpcs.delete_namespace(DeleteNamespaceRequest(namespace="old"), CALL)
        assert answer.deleted_namespace == f"old-deleted-{namespace_id[:5]}"
        assert [namespace.name for namespace in setup.deleted] == [answer.deleted_namespace]
        with pytest.raises(NamespaceNotFoundError):
            await setup.describe("old")
        renamed = await setup.describe(answer.deleted_namespace)
        assert renamed.namespace_info.state == DELETED
        assert renamed.namespace_info.id == namespace_id
        listed = await setup.rpcs.list_namespaces(ListNamespacesRequest(), CALL)
        assert [described.namespace_info.name for described in listed.namespaces] == ["default"]

        repeated = await setup.rpcs.delete_namespace(DeleteNamespaceRequest(namespace_id=namespace_id), CALL)
        assert repeated == answer

    run(scenario())


def test_what_is_possible_depends_on_the_state() -> None:
    async def scenario() -> None:
        setup = await _setup("old")
        get = setup.namespaces.get
        assert get("old", STARTABLE_STATES).name == "old"
        await setup.rpcs.deprecate_namespace(DeprecateNamespaceRequest(namespace="old"), CALL)
        assert get("old").name == "old"
        with pytest.raises(NamespaceInvalidStateError) as caught:
            get("old", STARTABLE_STATES)
        assert str(caught.value) == "Namespace has invalid state: Deprecated. Must be Registered."
        request = DeleteNamespaceRequest(namespace="old")
        deleted = (await setup.rpcs.delete_namespace(request, CALL)).deleted_namespace
        with pytest.raises(NamespaceInvalidStateError) as caught:
            await setup.rpcs.update_namespace(UpdateNamespaceRequest(namespace=deleted), CALL)
        assert str(caught.value) == (
            "Namespace has invalid state: Deleted. Must be Registered or Deprecated."
        )
        assert caught.value.allowed_states == (REGISTERED, DEPRECATED)

    run(scenario())


def test_deleting_needs_one_of_name_and_id_that_exists() -> None:
    async def scenario() -> None:
        setup = await _setup()
        with pytest.raises(InvalidArgumentError):
            await setup.rpcs.delete_namespace(DeleteNamespaceRequest(), CALL)
        with pytest.raises(InvalidArgumentError, match="Only one of namespace name or Id"):
            await setup.rpcs.delete_namespace(
                DeleteNamespaceRequest(namespace="default", namespace_id="x"), CALL
            )
        with pytest.raises(NamespaceNotFoundError):
            await setup.rpcs.delete_namespace(DeleteNamespaceRequest(namespace="gone"), CALL)
        assert setup.deleted == []

    run(scenario())


def test_aliases_number_the_attributes_of_each_type_and_can_be_changed_by_number() -> None:
    attributes = {"A": AttributeType.KEYWORD, "N": AttributeType.INT, "B": AttributeType.KEYWORD}
    assert aliases(attributes) == {"Keyword01": "A", "Int01": "N", "Keyword02": "B"}
    changed = with_aliases(attributes, {"Keyword01": "", "Text01": "T", "Bool07": ""})
    assert changed == {"N": AttributeType.INT, "B": AttributeType.KEYWORD, "T": AttributeType.TEXT}
    with pytest.raises(InvalidArgumentError, match="already allocated"):
        with_aliases(attributes, {"Int01": "Other"})
