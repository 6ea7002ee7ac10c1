"""How a trace travels: from OpenTelemetry's context into headers, and from headers into a context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import opentelemetry.context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from perdure.api.common.v1 import Payload
from perdure.converter import PayloadConverter
from perdure.exceptions import ApplicationError, ApplicationErrorCategory

Carrier: TypeAlias = dict[str, Any]

# The header's name is the same in all SDKs, so that a trace crosses languages.
HEADER_KEY = "_tracer-data"

default_text_map_propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
"""Carries the trace and the baggage, in the forms of the W3C."""


class HasPropagation(Protocol):
    """Says how contexts are carried. Interceptors have these as attributes, for subclasses to change."""

    header_key: str
    text_map_propagator: TextMapPropagator
    payload_converter: PayloadConverter


class HasHeaders(Protocol):
    """The input of a call that takes headers along."""

    headers: Mapping[str, Payload]


def current_carrier(settings: HasPropagation, context: Context | None = None) -> Carrier:
    """Return what stands for a context, by default the current one; empty if there is nothing to carry."""
    carrier: Carrier = {}
    settings.text_map_propagator.inject(carrier, context)
    return carrier


def with_carrier(
    settings: HasPropagation, headers: Mapping[str, Payload], carrier: Carrier
) -> Mapping[str, Payload]:
    """Return headers that hold a carrier; the same headers if it is empty."""
    if not carrier:
        return headers
    return {**headers, settings.header_key: settings.payload_converter.to_payload(carrier)}


def carrier_from(settings: HasPropagation, headers: Mapping[str, Payload]) -> Carrier | None:
    """Return the carrier that headers hold, if any."""
    payload = headers.get(settings.header_key)
    return None if payload is None else settings.payload_converter.from_payload(payload) or None


def context_from(settings: HasPropagation, headers: Mapping[str, Payload]) -> Context | None:
    """Return the context that headers hold, if any."""
    carrier = carrier_from(settings, headers)
    return None if carrier is None else settings.text_map_propagator.extract(carrier)


def with_text_carrier(headers: Mapping[str, str] | None, carrier: Carrier) -> Mapping[str, str]:
    """Return the headers of a Nexus request, which are plain strings, with a carrier."""
    texts = {
        name: ",".join(value) if isinstance(value, list) else str(value) for name, value in carrier.items()
    }
    return {**(headers or {}), **texts}


@contextmanager
def attached(context: Context | None) -> Iterator[None]:
    """Make a context the current one for the length of a block; None changes nothing."""
    if context is None:
        yield
        return
    token = opentelemetry.context.attach(context)
    try:
        yield
    finally:
        # The block of a workflow that is thrown away ends wherever the garbage collector runs. There is nothing to
        # undo there, and to try would log an error.
        if opentelemetry.context.get_current() is context:
            opentelemetry.context.detach(token)


@contextmanager
def errors_marked(span: Span) -> Iterator[None]:
    """Mark a span as failed when the block raises something that is not benign."""
    try:
        yield
    except Exception as error:  # Whatever it was: the span says so and it goes on its way.
        is_benign = isinstance(error, ApplicationError) and error.category == ApplicationErrorCategory.BENIGN
        if not is_benign:
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
