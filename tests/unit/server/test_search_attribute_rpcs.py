"""Search attributes over RPCs: added once, removed, listed beside the built-in ones, and names that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import IndexedValueType
from perdure.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from perdure.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetSearchAttributesRequest,
    ListWorkflowExecutionsRequest,
    StartWorkflowExecutionRequest,
)
from perdure.core.errors import InvalidArgumentError, NamespaceNotFoundError, UnavailableError
from perdure.core.visibility import PREDEFINED_ATTRIBUTES, SYSTEM_ATTRIBUTES
from perdure.server.attribute_removals import AttributeRemovals
from perdure.server.namespaces import Namespaces
from perdure.server.service.search_attributes import MAX_ATTRIBUTES, SearchAttributeRpcs
from perdure.store.faults import Fault, FaultyStore, fail_method
from perdure.store.protocol import Store
from tests.store.builders import record, run_key, write
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import CALL, make_namespaces, run

KEYWORD = IndexedValueType.Value("INDEXED_VALUE_TYPE_KEYWORD")
INT = IndexedValueType.Value("INDEXED_VALUE_TYPE_INT")


def _rpcs(store: Store, namespaces: Namespaces) -> SearchAttributeRpcs:
    return SearchAttributeRpcs(namespaces, AttributeRemovals(store, namespaces))


async def _add(rpcs: SearchAttributeRpcs, **attributes: int) -> None:
    request = AddSearchAttributesRequest(namespace="default")
    for name, number in attributes.items():
        request.search_attributes[name] = number  # type: ignore[assignment]
    await rpcs.add_search_attributes(request, CALL)


async def _custom(rpcs: SearchAttributeRpcs, namespace: str = "default") -> dict[str, int]:
    answer = await rpcs.list_search_attributes(ListSearchAttributesRequest(namespace=namespace), CALL)
    return dict(answer.custom_attributes)


def test_attributes_are_added_to_one_namespace_kept_in_the_store_and_removed() -> None:
    async def scenario() -> None:
        store, namespaces = await make_namespaces("other")
        rpcs = _rpcs(store, namespaces)
        await _add(rpcs, Colour=KEYWORD, Weight=INT)
        assert await _custom(rpcs) == {"Colour": KEYWORD, "Weight": INT}
        assert await _custom(rpcs, "other") == {}
        again = Namespaces(store)
        await again.load()
        assert await _custom(_rpcs(store, again)) == {"Colour": KEYWORD, "Weight": INT}

        await rpcs.remove_search_attributes(
            RemoveSearchAttributesRequest(namespace="default", search_attributes=["Colour", "Unheard"]), CALL
        )
        assert await _custom(rpcs) == {"Weight": INT}

    run(scenario())


def test_an_attribute_that_exists_keeps_its_type() -> None:
    async def scenario() -> None:
        store, namespaces = await make_namespaces()
        rpcs = _rpcs(store, namespaces)
        await _add(rpcs, Colour=KEYWORD)
        before = namespaces.get("default")
        await _add(rpcs, Colour=INT)
        assert namespaces.get("default") is before

    run(scenario())


def test_built_in_attributes_are_listed_for_every_namespace() -> None:
    async def scenario() -> None:
        store, namespaces = await make_namespaces()
        rpcs = _rpcs(store, namespaces)
        listed = await rpcs.list_search_attributes(ListSearchAttributesRequest(namespace="default"), CALL)
        everywhere = await rpcs.get_search_attributes(GetSearchAttributesRequest(), CALL)
        expected = {name: int(kind) for name, kind in {**SYSTEM_ATTRIBUTES, **PREDEFINED_ATTRIBUTES}.items()}
        assert dict(listed.system_attributes) == dict(everywhere.keys) == expected

    run(scenario())


@pytest.mark.parametrize(
    ("name", "number", "message"),
    [
        ("WorkflowId", KEYWORD, "Search attribute WorkflowId is reserved by system."),
        ("TemporalAnything", KEYWORD, "Search attribute TemporalAnything is reserved by system."),
        ("NamespaceId", KEYWORD, "Search attribute NamespaceId is reserved by system."),
        ("Colour", 0, "Unknown search attribute type: 0."),
        ("Colour", 99, "Unknown search attribute type: 99."),
        ("", KEYWORD, "Search attribute name is not set."),
    ],
)
def test_a_bad_definition_is_refused_and_nothing_of_the_request_is_done(
    name: str, number: int, message: str
) -> None:
    async def scenario() -> None:
        store, namespaces = await make_namespaces()
        rpcs = _rpcs(store, namespaces)
        with pytest.raises(InvalidArgumentError) as caught:
            await _add(rpcs, Good=KEYWORD, **{name: number})
        assert str(caught.value) == message
        assert await _custom(rpcs) == {}

    run(scenario())


def test_requests_that_say_nothing_or_name_no_namespace_are_refused() -> None:
    async def scenario() -> None:
        store, namespaces = await make_namespaces()
        rpcs = _rpcs(store, namespaces)
        with pytest.raises(InvalidArgumentError, match="SearchAttributes are not set"):
            await rpcs.add_search_attributes(AddSearchAttributesRequest(namespace="default"), CALL)
        with pytest.raises(InvalidArgumentError, match="SearchAttributes are not set"):
            await rpcs.remove_search_attributes(RemoveSearchAttributesRequest(namespace="default"), CALL)
        with pytest.raises(
            InvalidArgumentError, match="Unable to remove non-custom search attributes: RunId"
        ):
            await rpcs.remove_search_attributes(
                RemoveSearchAttributesRequest(namespace="default", search_attributes=["RunId"]), CALL
            )
        with pytest.raises(InvalidArgumentError, match="Namespace is not set"):
            await _custom(rpcs, "")
        with pytest.raises(NamespaceNotFoundError):
            await _custom(rpcs, "gone")

    run(scenario())


def test_a_namespace_has_a_limited_number_of_attributes() -> None:
    async def scenario() -> None:
        store, namespaces = await make_namespaces()
        rpcs = _rpcs(store, namespaces)
        await _add(rpcs, **{f"A{number}": KEYWORD for number in range(MAX_ATTRIBUTES)})
        with pytest.raises(InvalidArgumentError, match="cannot have more than 100"):
            await _add(rpcs, OneMore=KEYWORD)
        assert len(await _custom(rpcs)) == MAX_ATTRIBUTES

    run(scenario())


def test_a_name_is_free_again_when_its_old_values_are_gone() -> None:
    """A removal that fails in the middle is finished by whoever asks for the name next, or at the next start."""

    async def scenario() -> None:
        store, namespaces = await make_namespaces()
        faulty = FaultyStore(store)
        rpcs = _rpcs(faulty, namespaces)
        await _add(rpcs, Colour=KEYWORD)
        namespace_id = namespaces.get("default").namespace_id
        key = run_key(1, namespace=namespace_id)
        await store.commit([write(key, visibility=record(key, attributes={"Colour": "red"}))])
        faulty.decide = fail_method("purge_attribute", Fault.BEFORE)
        request = RemoveSearchAttributesRequest(namespace="default", search_attributes=["Colour"])
        await rpcs.remove_search_attributes(request, CALL)
        assert namespaces.get("default").retired_attributes == ("Colour",)
        assert await _custom(rpcs) == {}

        faulty.decide = lambda call: Fault.BEFORE if call.method == "purge_attribute" else Fault.NONE
        with pytest.raises(UnavailableError, match="Colour is still being removed"):
            await _add(rpcs, Colour=INT)

        faulty.decide = lambda call: Fault.NONE
        again = Namespaces(faulty)
        await again.load()
        rpcs = _rpcs(faulty, again)
        await _add(rpcs, Colour=INT)
        assert await _custom(rpcs) == {"Colour": INT}
        assert again.get("default").retired_attributes == ()
        page = await store.list_runs(namespace_id, None, 1, None)
        assert page.rows[0].record.attributes == {}

    run(scenario())


async def _shown(client: LocalClient) -> list[dict[str, bytes]]:
    """The search attributes of the only workflow, as a list and its description show them."""
    listed: Any = await client.invoke(ListWorkflowExecutionsRequest(namespace="default"))
    describe = DescribeWorkflowExecutionRequest(namespace="default", execution={"workflow_id": "w"})  # type: ignore[arg-type]
    described: Any = await client.invoke(describe)
    (info,) = listed.executions
    fields = (info.search_attributes, described.workflow_execution_info.search_attributes)
    return [{name: payload.data for name, payload in one.indexed_fields.items()} for one in fields]


def test_values_of_a_removed_attribute_are_not_shown_not_even_when_its_name_is_used_again() -> None:
    """By nothing that shows a workflow; its history, which says what was set, stays as it is."""

    async def scenario() -> None:
        async with serving() as client:
            for name in ("Colour", "Size"):
                add = AddSearchAttributesRequest(namespace="default", search_attributes={name: KEYWORD})
                await client.invoke(add)
            start = StartWorkflowExecutionRequest(namespace="default", workflow_id="w", request_id="r")
            start.workflow_type.name, start.task_queue.name = "T", "q"
            for name in ("Colour", "Size"):
                payload = Payload(metadata={"encoding": b"json/plain"}, data=b'"red"')
                start.search_attributes.indexed_fields[name].CopyFrom(payload)
            await client.invoke(start)
            assert await _shown(client) == [{"Colour": b'"red"', "Size": b'"red"'}] * 2
            await client.invoke(
                RemoveSearchAttributesRequest(namespace="default", search_attributes=["Colour"])
            )
            assert await _shown(client) == [{"Size": b'"red"'}] * 2
            again = AddSearchAttributesRequest(namespace="default", search_attributes={"Colour": INT})
            await client.invoke(again)
            assert await _shown(client) == [{"Size": b'"red"'}] * 2
            (started, *_) = await client.history("w")
            assert (
                "Colour"
                in started.workflow_execution_started_event_attributes.search_attributes.indexed_fields
            )

    run(scenario())
