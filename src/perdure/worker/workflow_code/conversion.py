"""Values to payloads and back, with the context that custom converters may want to know; small wire helpers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.protobuf import Duration
from perdure.api.sdk.v1 import UserMetadata
from perdure.converter import (
    ActivitySerializationContext,
    BinaryProtoPayloadConverter,
    CompositePayloadConverter,
    FailureConverter,
    NexusSerializationContext,
    PayloadConverter,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from perdure.converter._payload_converter import takes_context
from perdure.exceptions import ExternalStorageNotConfiguredError, FailureError

_Converter = TypeVar("_Converter", PayloadConverter, FailureConverter)


class Conversion:
    """Converters with one context.

    Attributes:
        payloads: the payload converter.
        failures: the failure converter.
    """

    __slots__ = ("_is_failure_exception", "failures", "payloads")

    def __init__(
        self,
        payloads: PayloadConverter,
        failures: FailureConverter,
        is_failure_exception: Callable[[BaseException], bool],
    ) -> None:
        self.payloads = payloads
        self.failures = failures
        self._is_failure_exception = is_failure_exception

    def to_payloads(self, values: Sequence[Any]) -> Payloads | None:
        """The values as a message; None for no values."""
        if not values:
            return None
        return Payloads(payloads=self.payloads.to_payloads(values))

    def to_result(self, value: Any) -> Payload:
        """One value as one payload.

        Raises:
            ValueError: the converter made none or several of it.
        """
        payloads = self.payloads.to_payloads([value])
        if len(payloads) != 1:
            raise ValueError(f"Expected 1 result payload, got {len(payloads)}")
        return payloads[0]

    def from_payloads(self, payloads: Sequence[Payload], types: list[Any] | None) -> list[Any]:
        """The values; types are used only if there are as many as payloads.

        Raises:
            FailureError: or another exception that fails the workflow, as the converter raised it.
            RuntimeError: the converter failed in another way.
        """
        if not payloads:
            return []
        if types and len(types) != len(payloads):
            types = None
        try:
            return self.payloads.from_payloads(payloads, type_hints=types)
        except (FailureError, ExternalStorageNotConfiguredError):
            raise
        except Exception as error:  # whatever a custom converter raises
            if self._is_failure_exception(error):
                raise
            raise RuntimeError("Failed decoding arguments") from error

    def from_result(self, payloads: Payloads | None, type_hint: type | None) -> Any:
        """The first of the payloads as a value; None if there is none."""
        if payloads is None or not payloads.payloads:
            return None
        return self.from_payloads(payloads.payloads[:1], [type_hint] if type_hint else None)[0]

    def to_failure(self, error: BaseException) -> Failure:
        """The error as a message."""
        failure = Failure()
        self.failures.to_failure(error, self.payloads, failure)
        return failure

    def from_failure(self, failure: Failure) -> BaseException:
        """The message as an error."""
        return self.failures.from_failure(failure, self.payloads)

    def metadata(self, summary: str | None, details: str | None = None) -> UserMetadata | None:
        """What user interfaces show about a command; None for nothing."""
        if not summary and not details:
            return None
        return UserMetadata(
            summary=self.payloads.to_payload(summary) if summary else None,
            details=self.payloads.to_payload(details) if details else None,
        )


_MESSAGES = CompositePayloadConverter(BinaryProtoPayloadConverter())


class Conversions:
    """Makes converters with contexts, for one run.

    Attributes:
        plain: converters without a context.
        server: for what the server itself reads and writes: messages, whatever the application's converter is.
        workflow: with the run's own.
    """

    def __init__(
        self,
        payloads: PayloadConverter,
        failures: FailureConverter,
        namespace: str,
        workflow_id: str,
        workflow_type: str,
        is_failure_exception: Callable[[BaseException], bool],
    ) -> None:
        self._namespace = namespace
        self._workflow_id = workflow_id
        self._workflow_type = workflow_type
        self._is_failure_exception = is_failure_exception
        self.plain = Conversion(payloads, failures, is_failure_exception)
        self.server = Conversion(_MESSAGES, failures, is_failure_exception)
        self._takes_context = _may_take_context(payloads, failures)
        self.workflow = self.for_workflow(workflow_id)

    def for_workflow(self, workflow_id: str, namespace: str | None = None) -> Conversion:
        """With the context of a workflow: this one, a child, one that is signalled."""
        return self._with(WorkflowSerializationContext(namespace or self._namespace, workflow_id))

    def for_activity(
        self, activity_type: str, activity_id: str | None, task_queue: str, *, is_local: bool
    ) -> Conversion:
        """With the context of an activity of this workflow."""
        if not self._takes_context:
            return self.plain
        return self._with(
            ActivitySerializationContext(
                namespace=self._namespace,
                workflow_id=self._workflow_id,
                workflow_type=self._workflow_type,
                activity_type=activity_type,
                activity_id=activity_id,
                activity_task_queue=task_queue,
                is_local=is_local,
            )
        )

    def for_operation(self, endpoint: str, service: str, operation: str) -> Conversion:
        """With the context of a Nexus operation."""
        return self._with(NexusSerializationContext(endpoint, service, operation))

    def _with(self, context: SerializationContext) -> Conversion:
        plain = self.plain
        if not self._takes_context:
            return plain
        return Conversion(
            _with_context(plain.payloads, context),
            _with_context(plain.failures, context),
            self._is_failure_exception,
        )


_answers: dict[tuple[int, int], tuple[bool, PayloadConverter, FailureConverter]] = {}
"""By the identities of two converters, which are kept here so that no others can get them."""
_MOST_ANSWERS = 100


def _may_take_context(payloads: PayloadConverter, failures: FailureConverter) -> bool:
    """Whether a context can make a difference to either; asked once for those of a worker, not for each run."""
    key = (id(payloads), id(failures))
    known = _answers.get(key)
    if known is None:
        if len(_answers) >= _MOST_ANSWERS:
            _answers.clear()
        takes = takes_context(payloads) or takes_context(failures)
        known = _answers[key] = (takes, payloads, failures)
    return known[0]


def _with_context(converter: _Converter, context: SerializationContext) -> _Converter:
    return converter.with_context(context) if isinstance(converter, WithSerializationContext) else converter


def set_duration(target: Duration, duration: timedelta | None) -> None:
    """Writes a duration into a message's field; nothing for None or no time at all."""
    if duration:
        target.seconds = duration.days * 86_400 + duration.seconds
        target.nanos = duration.microseconds * 1_000
