"""Search attributes of a namespace: the list, adding, removing."""

from __future__ import annotations

from typing import Final

from perdure.api.enums.v1 import IndexedValueType
from perdure.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from perdure.ui.context import Context
from perdure.ui.forms import Field, Form, Values
from perdure.ui.page import Page, Redirect

_PREFIX: Final = "INDEXED_VALUE_TYPE_"
_WORDS: Final = {
    "TEXT": "Text", "KEYWORD": "Keyword", "INT": "Int", "DOUBLE": "Double", "BOOL": "Bool",
    "DATETIME": "Datetime", "KEYWORD_LIST": "KeywordList",
}  # fmt: skip


def _type(number: IndexedValueType.ValueType) -> str:
    name = IndexedValueType.Name(number).removeprefix(_PREFIX)
    return _WORDS.get(name, name)


async def show(context: Context) -> Page:
    """Custom and system attributes."""
    request = ListSearchAttributesRequest(namespace=context.namespace)
    answer = await context.call("list_search_attributes", request, service="operator")
    data = {
        "namespace": context.namespace,
        "custom": [
            {
                "name": name,
                "type": _type(answer.custom_attributes[name]),
                "remove_url": context.url(
                    "namespaces", context.namespace, "search-attributes", name, "remove"
                ),
            }
            for name in sorted(answer.custom_attributes)
        ],
        "system": [
            {"name": name, "type": _type(answer.system_attributes[name])}
            for name in sorted(answer.system_attributes)
        ],
    }
    return Page("search_attributes.html", f"Search attributes · {context.namespace}", data)


def _back(context: Context) -> str:
    return context.url("namespaces", context.namespace, "search-attributes")


async def _add(context: Context, values: Values) -> Redirect:
    name = values.text("name")
    number = IndexedValueType.Value(f"{_PREFIX}{values.text('type')}")
    request = AddSearchAttributesRequest(namespace=context.namespace, search_attributes={name: number})
    await context.call("add_search_attributes", request, service="operator")
    return Redirect(_back(context), f"Search attribute “{name}” was added.")


async def _remove(context: Context, values: Values) -> Redirect:
    name = context.names["attribute"]
    request = RemoveSearchAttributesRequest(namespace=context.namespace, search_attributes=[name])
    await context.call("remove_search_attributes", request, service="operator")
    return Redirect(_back(context), f"Search attribute “{name}” was removed.")


ADD: Final = Form(
    "Add a search attribute",
    "Add",
    (
        Field("name", "Name", is_required=True),
        Field("type", "Type", "select", options=tuple(_WORDS.items()), initial="KEYWORD"),
    ),
    _add,
    nav="search-attributes",
    back=_back,
)
REMOVE: Final = Form(
    "Remove this search attribute",
    "Remove",
    (),
    _remove,
    "Runs can no longer be found by it. The values in their histories stay.",
    is_dangerous=True,
    nav="search-attributes",
    back=_back,
)
