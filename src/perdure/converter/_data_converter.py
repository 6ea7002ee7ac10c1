"""The data converter: values to payloads with a payload converter, then a codec, then external storage; and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from perdure.api.common.v1 import Memo, Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.common import _arg_unset
from perdure.converter import _extstore
from perdure.converter._extstore import (
    _REFERENCE_MARKER_KEY,
    ExternalStorage,
    StorageDriverStoreContext,
    _has_reference_marker,
    _is_reference_payload,
    _stands_for_another,
)
from perdure.converter._failure_converter import DefaultFailureConverter, FailureConverter
from perdure.converter._payload_codec import PayloadCodec, _apply_to_failure_payloads
from perdure.converter._payload_converter import (
    DefaultPayloadConverter,
    PayloadConverter,
    _TemporalTransferTypePayloadConverter,
    takes_context,
)
from perdure.converter._serialization_context import (
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from perdure.exceptions import ExternalStorageNotConfiguredError

_CONVERTER_FIELDS = ("payload_converter", "payload_codec", "failure_converter", "external_storage")

# The code in brackets is that of the official SDKs: people look it up and tools match it.
_UNREADABLE_REFERENCE = (
    "[TMPRL1106] An encoded external storage reference cannot be decoded:"
    " configure the payload codec that was used to write it."
)


@dataclass(frozen=True)
class DataConverter(WithSerializationContext):
    """Turns Python values into what is sent and back."""

    payload_converter_class: type[PayloadConverter] = DefaultPayloadConverter
    """Class of the payload converter; it is instantiated without arguments."""

    payload_codec: PayloadCodec | None = None
    """Encodes the bytes of payloads, for example to encrypt them."""

    failure_converter_class: type[FailureConverter] = DefaultFailureConverter
    """Class of the failure converter; it is instantiated without arguments."""

    payload_converter: PayloadConverter = dataclasses.field(init=False)
    """The payload converter; it applies transfer types too."""

    failure_converter: FailureConverter = dataclasses.field(init=False)
    """The failure converter."""

    external_storage: ExternalStorage | None = None
    """Where large payloads go; None to send all of them."""

    default: ClassVar[DataConverter]
    """The data converter that is used unless another is given."""

    def __post_init__(self) -> None:
        """Create the converters."""
        wrapped = _TemporalTransferTypePayloadConverter.wrap(self.payload_converter_class())
        object.__setattr__(self, "payload_converter", wrapped)
        object.__setattr__(self, "failure_converter", self.failure_converter_class())

    async def encode(self, values: Sequence[Any]) -> list[Payload]:
        """Turn values into payloads ready to be sent.

        Args:
            values: What to convert.

        Returns:
            At least one payload and not more than there are values.
        """
        payloads = self.payload_converter.to_payloads(values)
        payloads = await self._encode_payload_sequence(payloads)
        return await self._external_store_payload_sequence(payloads)

    async def decode(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Turn payloads as they were received into values.

        Args:
            payloads: What to convert.
            type_hints: The type wanted for each.
        """
        return self.payload_converter.from_payloads(await self._receive(payloads), type_hints)

    async def encode_wrapper(self, values: Sequence[Any]) -> Payloads:
        """Do what `encode` does, and return the message that holds several payloads."""
        return Payloads(payloads=await self.encode(values))

    async def decode_wrapper(
        self, payloads: Payloads | None, type_hints: list[type] | None = None
    ) -> list[Any]:
        """Do what `decode` does with the payloads inside a message; none if there is no message."""
        if not payloads or not payloads.payloads:
            return []
        return await self.decode(payloads.payloads, type_hints)

    async def encode_failure(self, exception: BaseException, failure: Failure) -> None:
        """Write an exception into a failure ready to be sent.

        Args:
            exception: What to convert.
            failure: Where to write.
        """
        self.failure_converter.to_failure(exception, self.payload_converter, failure)
        if self._decode_payload_has_effect:
            await _apply_to_failure_payloads(failure, self._transform_outbound_payloads)

    async def decode_failure(self, failure: Failure) -> BaseException:
        """Turn a failure as it was received into an exception. Its payloads are decoded in place.

        Args:
            failure: What to convert.
        """
        await _apply_to_failure_payloads(failure, self._transform_inbound_payloads)
        return self.failure_converter.from_failure(failure, self.payload_converter)

    @cached_property
    def _takes_context(self) -> bool:
        """Whether `with_context` can return another converter than this: else nobody need make a context for it."""
        return type(self).with_context is not DataConverter.with_context or any(
            takes_context(getattr(self, name)) for name in _CONVERTER_FIELDS
        )

    def _for_workflow(self, namespace: str, workflow_id: str) -> Self:
        """Return the data converter for payloads of a workflow."""
        if not self._takes_context:
            return self
        return self.with_context(WorkflowSerializationContext(namespace, workflow_id))

    def with_context(self, context: SerializationContext) -> Self:
        """Return a data converter whose parts use the context, or this one if it makes no difference to them.

        Args:
            context: Says to whom the payloads belong.
        """
        changes = {}
        for name in _CONVERTER_FIELDS:
            part = getattr(self, name)
            if part is not None and isinstance(part, WithSerializationContext):
                changed = part.with_context(context)
                if changed is not part:
                    changes[name] = changed
        return self._copy_with(**changes) if changes else self

    def _copy_with(self, **changes: Any) -> Self:
        """Return a copy with other parts. The parts are kept, which `dataclasses.replace` would make anew."""
        copy = object.__new__(type(self))
        for name, value in (self.__dict__ | changes).items():
            object.__setattr__(copy, name, value)
        return copy

    def _with_store_context(self, store_context: StorageDriverStoreContext) -> Self:
        """Return a data converter that stores large payloads for somebody."""
        if self.external_storage is None:
            return self
        return self._copy_with(external_storage=self.external_storage._with_store_context(store_context))

    def _with_contexts(
        self, serialization_ctx: SerializationContext, store_ctx: StorageDriverStoreContext
    ) -> Self:
        """Return a data converter with both contexts."""
        return self.with_context(serialization_ctx)._with_store_context(store_ctx)

    async def _decode_memo(self, source: Memo) -> Mapping[str, Any]:
        return {name: (await self.decode([payload]))[0] for name, payload in source.fields.items()}

    async def _decode_memo_field(self, source: Memo, key: str, default: Any, type_hint: type | None) -> Any:
        if key not in source.fields:
            if default is _arg_unset:
                raise KeyError(f"Memo does not have a value for key {key}")
            return default
        return (await self.decode([source.fields[key]], [type_hint] if type_hint else None))[0]

    async def _encode_memo(self, source: Mapping[str, Any]) -> Memo:
        memo = Memo()
        await self._encode_memo_existing(source, memo)
        return memo

    async def _encode_memo_existing(self, source: Mapping[str, Any], memo: Memo) -> None:
        for name, value in source.items():
            payload = value if isinstance(value, Payload) else (await self.encode([value]))[0]
            memo.fields[name].CopyFrom(payload)

    async def _transform_outbound_payload(self, payload: Payload) -> Payload:
        """Encode and store one payload."""
        encoded = await self._encode_payload_sequence([payload])
        return (await self._external_store_payload_sequence(encoded))[0]

    async def _transform_outbound_payloads(self, payloads: Payloads) -> None:
        """Encode and store the payloads inside a message, in place."""
        if self.payload_codec:
            await self.payload_codec.encode_wrapper(payloads)
        if self.external_storage:
            _replace(payloads, await self._external_store_payload_sequence(payloads.payloads))

    async def _receive(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Retrieve and decode payloads; a codec may make more of them."""
        return await self._decode_payload_sequence(await self._external_retrieve_payload_sequence(payloads))

    async def _transform_inbound_payload(self, payload: Payload) -> Payload:
        """Retrieve and decode one payload."""
        return (await self._receive([payload]))[0]

    async def _transform_inbound_payloads(self, payloads: Payloads) -> None:
        """Retrieve and decode the payloads inside a message, in place."""
        _replace(payloads, await self._external_retrieve_payload_sequence(payloads.payloads))
        if self.payload_codec:
            await self.payload_codec.decode_wrapper(payloads)

    async def _encode_payload_sequence(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Apply the codec only."""
        if self.payload_codec is None:
            return list(payloads)
        return await self.payload_codec.encode(payloads)

    async def _external_store_payload_sequence(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Store large payloads only."""
        if self.external_storage is None:
            return list(payloads)
        stored = await self.external_storage._store_payload_sequence(payloads)
        return await self._encode_references(stored)

    async def _external_retrieve_payload_sequence(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Retrieve what is stored elsewhere only.

        Raises:
            ExternalStorageNotConfiguredError: Something is stored elsewhere, and nothing here knows where.
        """
        if self.external_storage is None:
            if any(map(_stands_for_another, payloads)):
                raise ExternalStorageNotConfiguredError
            return list(payloads)
        return await self.external_storage._retrieve_payload_sequence(await self._decode_references(payloads))

    async def _decode_payload_sequence(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Apply the codec backwards only."""
        if self.payload_codec is None:
            return list(payloads)
        return await self.payload_codec.decode(payloads)

    async def _encode_references(self, payloads: list[Payload]) -> list[Payload]:
        """Apply the codec to references, where that is switched on."""
        if not _extstore._ENCODE_STORAGE_REFERENCES or self.payload_codec is None:
            return payloads
        for index, payload in enumerate(payloads):
            if _is_reference_payload(payload):
                [encoded] = await self.payload_codec.encode([payload])
                if not encoded.external_payloads:
                    encoded.external_payloads.extend(payload.external_payloads)
                encoded.metadata[_REFERENCE_MARKER_KEY] = b"true"
                payloads[index] = encoded
        return payloads

    async def _decode_references(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Apply the codec backwards to encoded references."""
        decoded = list(payloads)
        for index, payload in enumerate(decoded):
            if not _has_reference_marker(payload):
                continue
            reference = payload
            if self.payload_codec is not None:
                encoded = Payload()
                encoded.CopyFrom(payload)
                del encoded.metadata[_REFERENCE_MARKER_KEY]
                del encoded.external_payloads[:]
                [reference] = await self.payload_codec.decode([encoded])
            if not _is_reference_payload(reference):
                raise RuntimeError(_UNREADABLE_REFERENCE)
            decoded[index] = reference
        return decoded

    @property
    def _decode_payload_has_effect(self) -> bool:
        """Whether payloads are anything else on the wire than what the payload converter makes."""
        return self.payload_codec is not None or self.external_storage is not None


def _replace(payloads: Payloads, replacements: Sequence[Payload]) -> None:
    for payload, replacement in zip(payloads.payloads, replacements, strict=True):
        if replacement is not payload:
            payload.CopyFrom(replacement)


def default() -> DataConverter:
    """Return the default data converter. Deprecated: use `DataConverter.default`."""
    return DataConverter.default
