"""Ids of spans and traces: inside a workflow the same in every replay."""

from __future__ import annotations

import random

import opentelemetry.trace
from opentelemetry.sdk.trace.id_generator import IdGenerator

import perdure.workflow

_ATTRIBUTE = "__perdure_opentelemetry_ids"
_SEED_NAME = "opentelemetry ids"


def _workflow_numbers() -> random.Random | None:
    """Return the random numbers for ids of the workflow that is running.

    They are apart from the workflow's own, so that tracing changes nothing that the code sees. In a query or a
    validator there are none: what happens there is not part of the history.
    """
    if not perdure.workflow.in_workflow() or perdure.workflow.unsafe.is_read_only():
        return None
    instance = perdure.workflow.instance()
    numbers: random.Random | None = getattr(instance, _ATTRIBUTE, None)
    if numbers is None:
        numbers = perdure.workflow.new_random(_SEED_NAME)
        setattr(instance, _ATTRIBUTE, numbers)
    return numbers


class TemporalIdGenerator(IdGenerator):
    """Ids from a workflow's own numbers inside a workflow, and from another generator elsewhere."""

    def __init__(self, id_generator: IdGenerator) -> None:
        """Create the generator.

        Args:
            id_generator: Used outside of workflows.
        """
        self._id_generator = id_generator
        self.traces: list[int] = []
        self.spans: list[int] = []

    def seed_span_id(self, span_id: int) -> None:
        """Say which span id to generate next."""
        self.spans.append(span_id)

    def seed_trace_id(self, trace_id: int) -> None:
        """Say which trace id to generate next."""
        self.traces.append(trace_id)

    def generate_span_id(self) -> int:
        """Return a span id of 64 bits."""
        if self.spans:
            return self.spans.pop()
        numbers = _workflow_numbers()
        if numbers is None:
            return self._id_generator.generate_span_id()
        return _valid_bits(numbers, 64, opentelemetry.trace.INVALID_SPAN_ID)

    def generate_trace_id(self) -> int:
        """Return a trace id of 128 bits."""
        if self.traces:
            return self.traces.pop()
        numbers = _workflow_numbers()
        if numbers is None:
            return self._id_generator.generate_trace_id()
        return _valid_bits(numbers, 128, opentelemetry.trace.INVALID_TRACE_ID)


def _valid_bits(numbers: random.Random, bits: int, invalid: int) -> int:
    while True:
        value = numbers.getrandbits(bits)
        if value != invalid:
            return value
