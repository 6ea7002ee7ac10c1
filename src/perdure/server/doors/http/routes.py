"""The table of HTTP routes, read from the `google.api.http` annotations of the protocol's services.

Lives here: which RPC a method and path stand for. May not: what happens with a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from perdure.api.registry import POOL, message_class
from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, method_path

_VERBS: Final = ("get", "put", "post", "delete", "patch")
Fields = tuple[FieldDescriptor, ...]
"""The way from a message to a field of it: (execution, workflow_id)."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way to call an RPC over HTTP.

    Attributes:
        verb: such as `POST`.
        template: such as `/namespaces/{namespace}/workflows/{workflow_id}`.
        path: the RPC's, as gRPC has it.
        request: descriptor of the RPC's request; `response` of its response.
        has_body: the request is the JSON of the body; without, its fields are in the query string.
        segments: of the template; a string stands for itself, fields take what is there.
    """

    verb: str
    template: str
    path: str
    request: Descriptor
    response: Descriptor
    has_body: bool
    segments: tuple[str | Fields, ...]

    @property
    def rpc(self) -> str:
        """Name of the RPC."""
        return self.path.rpartition("/")[2]


class NoRouteError(Exception):
    """Nothing is at this path. `is_other_verb`: there is, but not for this method."""

    def __init__(self, is_other_verb: bool) -> None:
        super().__init__()
        self.is_other_verb = is_other_verb


class Routes:
    """All routes, found by method and path."""

    def __init__(self) -> None:
        self.all: tuple[Route, ...] = tuple(_all_routes())
        by_size: dict[int, list[Route]] = {}
        for route in self.all:
            by_size.setdefault(len(route.segments), []).append(route)
        # A template that says more in words is meant before one that says it in fields.
        self._by_size: Mapping[int, list[Route]] = {
            size: sorted(routes, key=lambda route: sum(not isinstance(s, str) for s in route.segments))
            for size, routes in by_size.items()
        }

    def find(self, verb: str, raw_path: str) -> tuple[Route, dict[Fields, str]]:
        """The route of a request, and what the path says of its fields.

        Args:
            verb: the HTTP method.
            raw_path: as it was sent: segments may hold escaped slashes.

        Raises:
            NoRouteError: there is none.
        """
        texts = raw_path.split("/")[1:]
        is_other_verb = False
        for route in self._by_size.get(len(texts), ()):
            values = _match(route.segments, texts)
            if values is None:
                continue
            if route.verb == verb:
                return route, values
            is_other_verb = True
        raise NoRouteError(is_other_verb)


def _match(segments: tuple[str | Fields, ...], texts: list[str]) -> dict[Fields, str] | None:
    values: dict[Fields, str] = {}
    for segment, text in zip(segments, texts, strict=True):
        if isinstance(segment, str):
            if segment != text:
                return None
        elif not text:
            return None
        else:
            values[segment] = unquote(text)
    return values


def _all_routes() -> Iterator[Route]:
    options_class = message_class("google.protobuf.MethodOptions")
    annotation = POOL.FindExtensionByName("google.api.http")
    for service_name in (WORKFLOW_SERVICE, OPERATOR_SERVICE):
        for method in POOL.FindServiceByName(service_name).methods:
            # The descriptor's own options are of the process-wide pool, which does not know the extension.
            options: Any = options_class.FromString(method.GetOptions().SerializeToString())
            if not options.HasExtension(annotation):
                continue
            first = options.Extensions[annotation]
            path = method_path(service_name, method.name)
            for rule in (first, *first.additional_bindings):
                verb = next(verb for verb in _VERBS if getattr(rule, verb))
                template = getattr(rule, verb)
                yield Route(
                    verb.upper(),
                    template,
                    path,
                    method.input_type,
                    method.output_type,
                    rule.body == "*",
                    tuple(_segment(text, method.input_type) for text in template.split("/")[1:]),
                )


def _segment(text: str, request: Descriptor) -> str | Fields:
    return fields_at(request, text[1:-1]) if text.startswith("{") else text


def fields_at(message: Descriptor, dotted: str) -> Fields:
    """The way to a field by its dotted name, each part as in the proto or in lowerCamelCase.

    Raises:
        KeyError: the message has no such field.
    """
    fields: list[FieldDescriptor] = []
    current: Descriptor | None = message
    for name in dotted.split("."):
        if current is None:
            raise KeyError(dotted)
        field = current.fields_by_name.get(name) or current.fields_by_camelcase_name.get(name)
        if field is None:
            raise KeyError(dotted)
        fields.append(field)
        current = field.message_type
    return tuple(fields)
