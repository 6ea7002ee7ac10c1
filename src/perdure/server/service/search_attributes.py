"""RPCs on search attributes: a namespace's own ones added, removed and listed beside the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from perdure.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    AddSearchAttributesResponse,
    ListSearchAttributesRequest,
    ListSearchAttributesResponse,
    RemoveSearchAttributesRequest,
    RemoveSearchAttributesResponse,
)
from perdure.api.workflowservice.v1 import GetSearchAttributesRequest, GetSearchAttributesResponse
from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility.attributes import (
    PREDEFINED_ATTRIBUTES,
    SYSTEM_ATTRIBUTES,
    AttributeType,
    is_definable,
)
from perdure.server.attribute_removals import AttributeRemovals
from perdure.server.namespaces import Namespace, Namespaces
from perdure.server.service.call import Call

MAX_ATTRIBUTES = 100
"""Search attributes a namespace may define; a run may not have more either."""

_BUILT_IN: Mapping[str, AttributeType] = {**SYSTEM_ATTRIBUTES, **PREDEFINED_ATTRIBUTES}


class SearchAttributeRpcs:
    """Handlers of the RPCs on search attributes.

    Args:
        namespaces: where each namespace's own attributes are kept.
        removals: takes the values of removed ones out.
    """

    def __init__(self, namespaces: Namespaces, removals: AttributeRemovals) -> None:
        self._namespaces = namespaces
        self._removals = removals

    async def add_search_attributes(
        self, request: AddSearchAttributesRequest, call: Call
    ) -> AddSearchAttributesResponse:
        """OperatorService.AddSearchAttributes: those that exist already stay as they are."""
        if request.namespace:
            self._namespaces.get(request.namespace)
        if not request.search_attributes:
            raise InvalidArgumentError("SearchAttributes are not set on request.")
        for name, number in request.search_attributes.items():
            check_attribute(name, number)
        namespace = self._namespace(request.namespace)
        if any(name in namespace.retired_attributes for name in request.search_attributes):
            await self._removals.finish(namespace)
            namespace = self._namespace(request.namespace)
        for name in request.search_attributes:
            self._removals.check_free(namespace, name)
        added = {
            name: AttributeType(number)
            for name, number in sorted(request.search_attributes.items())
            if name not in namespace.search_attributes
        }
        if added:
            await self._namespaces.update(with_attributes(namespace, added))
        return AddSearchAttributesResponse()

    async def remove_search_attributes(
        self, request: RemoveSearchAttributesRequest, call: Call
    ) -> RemoveSearchAttributesResponse:
        """OperatorService.RemoveSearchAttributes: unknown names are ignored."""
        if request.namespace:
            self._namespaces.get(request.namespace)
        if not request.search_attributes:
            raise InvalidArgumentError("SearchAttributes are not set on request.")
        namespace = self._namespace(request.namespace)
        for name in request.search_attributes:
            if name in _BUILT_IN:
                raise InvalidArgumentError(f"Unable to remove non-custom search attributes: {name}.")
        kept = {
            name: attribute_type
            for name, attribute_type in namespace.search_attributes.items()
            if name not in request.search_attributes
        }
        removed = namespace.search_attributes.keys() - kept.keys()
        if removed:
            retired = (*namespace.retired_attributes, *sorted(removed))
            await self._namespaces.update(
                replace(namespace, search_attributes=kept, retired_attributes=retired)
            )
            await self._removals.finish(self._namespace(request.namespace))
        return RemoveSearchAttributesResponse()

    async def list_search_attributes(
        self, request: ListSearchAttributesRequest, call: Call
    ) -> ListSearchAttributesResponse:
        """OperatorService.ListSearchAttributes."""
        namespace = self._namespace(request.namespace)
        response = ListSearchAttributesResponse()
        _fill(response.custom_attributes, namespace.search_attributes)
        _fill(response.system_attributes, _BUILT_IN)
        return response

    async def get_search_attributes(
        self, request: GetSearchAttributesRequest, call: Call
    ) -> GetSearchAttributesResponse:
        """GetSearchAttributes, deprecated: knows no namespace, so it names the built-in ones only."""
        response = GetSearchAttributesResponse()
        _fill(response.keys, _BUILT_IN)
        return response

    def _namespace(self, name: str) -> Namespace:
        if not name:
            raise InvalidArgumentError("Namespace is not set on request.")
        return self._namespaces.get(name)


def check_attribute(name: str, number: int) -> None:
    """Checks the name and the type of a new search attribute.

    Raises:
        InvalidArgumentError: the name is empty or reserved, or there is no such type.
    """
    if not name:
        raise InvalidArgumentError("Search attribute name is not set.")
    if not is_definable(name):
        raise InvalidArgumentError(f"Search attribute {name} is reserved by system.")
    if number not in AttributeType.__members__.values():
        raise InvalidArgumentError(f"Unknown search attribute type: {number}.")


def with_attributes(namespace: Namespace, added: Mapping[str, AttributeType]) -> Namespace:
    """The namespace with more search attributes.

    Raises:
        InvalidArgumentError: too many.
    """
    attributes = {**namespace.search_attributes, **added}
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidArgumentError(
            f"Unable to create search attributes: cannot have more than {MAX_ATTRIBUTES} search attributes."
        )
    return replace(namespace, search_attributes=attributes)


def _fill(target: object, attributes: Mapping[str, AttributeType]) -> None:
    for name, attribute_type in attributes.items():
        target[name] = int(attribute_type)  # type: ignore[index]  # a map field of enum numbers
