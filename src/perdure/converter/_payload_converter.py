"""Payload converters: Python values to payloads and back, one encoding each, and those made of several.

JSON has a module of its own. Converters are synchronous and deterministic, because workflow code calls them.
"""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self, cast, overload

import google.protobuf.json_format
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from perdure.api import registry
from perdure.api.common.v1 import Payload, Payloads
from perdure.common import RawValue
from perdure.converter._serialization_context import SerializationContext, WithSerializationContext
from perdure.converter._transfer_types import _get_transfer_type_converter
from perdure.exceptions import (
    ExternalStorageNotConfiguredError,
    PayloadError,
    PayloadParseError,
    PayloadTypeError,
    UnknownPayloadEncodingError,
)
from perdure.types import AnyType


class PayloadConverter(ABC):
    """Converts between values and payloads."""

    default: ClassVar[PayloadConverter]
    """The converter that is used unless another is given."""

    @abstractmethod
    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """Turn values into payloads.

        Args:
            values: What to convert; a `RawValue` stands for its payload.

        Returns:
            At least one payload and not more than there are values.

        Raises:
            Exception: A value cannot be converted.
        """
        raise NotImplementedError

    @abstractmethod
    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Turn payloads into values.

        Args:
            payloads: What to convert.
            type_hints: The type wanted for each payload; a payload wanted as `RawValue` is only wrapped.

        Returns:
            The values.

        Raises:
            Exception: A payload cannot be converted.
        """
        raise NotImplementedError

    def to_payloads_wrapper(self, values: Sequence[Any]) -> Payloads:
        """Turn values into payloads inside the message that holds several."""
        return Payloads(payloads=self.to_payloads(values))

    def from_payloads_wrapper(self, payloads: Payloads | None) -> list[Any]:
        """Turn the payloads inside a message into values; none if there is no message."""
        if not payloads or not payloads.payloads:
            return []
        return self.from_payloads(payloads.payloads)

    def to_payload(self, value: Any) -> Payload:
        """Turn one value into a payload."""
        return self.to_payloads([value])[0]

    @overload
    def from_payload(self, payload: Payload) -> Any: ...

    @overload
    def from_payload(self, payload: Payload, type_hint: type[AnyType]) -> AnyType: ...

    @overload
    def from_payload(self, payload: Payload, type_hint: type | None) -> Any: ...

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Turn one payload into a value.

        Args:
            payload: What to convert.
            type_hint: The type wanted.
        """
        return self.from_payloads([payload], [type_hint] if type_hint else None)[0]


class EncodingPayloadConverter(ABC):
    """Converts between values and payloads of one encoding; used inside a `CompositePayloadConverter`."""

    @property
    @abstractmethod
    def encoding(self) -> str:
        """Name of the encoding."""
        raise NotImplementedError

    @abstractmethod
    def to_payload(self, value: Any) -> Payload | None:
        """Turn a value into a payload.

        Args:
            value: What to convert.

        Returns:
            The payload, or None if this converter is not for such values.

        Raises:
            TypeError: The value is of a type that cannot be converted.
            ValueError: The value cannot be converted although its type can.
            RuntimeError: Anything else went wrong.
        """
        raise NotImplementedError

    @abstractmethod
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Turn a payload into a value.

        Args:
            payload: A payload of this encoding.
            type_hint: The type wanted.

        Raises:
            RuntimeError: The payload is not what its encoding says.
        """
        raise NotImplementedError


class CompositePayloadConverter(PayloadConverter, WithSerializationContext):
    """Asks several converters: for a value in their order, for a payload by its encoding.

    Attributes:
        converters: The converters by the bytes of their encodings.
    """

    converters: Mapping[bytes, EncodingPayloadConverter]

    def __init__(self, *converters: EncodingPayloadConverter) -> None:
        """Create a converter.

        Args:
            converters: Asked in this order.
        """
        self._set_converters(*converters)

    def _set_converters(self, *converters: EncodingPayloadConverter) -> None:
        self.converters = {converter.encoding.encode(): converter for converter in converters}

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """Turn each value into a payload with the first converter that takes it.

        Raises:
            RuntimeError: No converter takes a value.
        """
        payloads = []
        for index, value in enumerate(values):
            if isinstance(value, RawValue):
                payloads.append(value.payload)
                continue
            value_type = type(value)
            for converter in self.converters.values():
                if value_type in _PLAIN_TYPES and type(converter) in _NOT_FOR_PLAIN_TYPES:
                    continue
                payload = converter.to_payload(value)
                if payload is not None:
                    payloads.append(payload)
                    break
            else:
                raise RuntimeError(
                    f"Value at index {index} of type {value_type} has no known converter: convert it to another"
                    f" type first, or use a data converter with one of {_names(self.converters)} that takes it"
                )
        return payloads

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Turn each payload into a value with the converter of its encoding.

        Raises:
            UnknownPayloadEncodingError: No converter has the payload's encoding; also a KeyError.
            PayloadParseError: The payload's bytes are not what its encoding says; also a RuntimeError.
            PayloadTypeError: The value does not fit the type wanted; also a TypeError.
        """
        values = []
        hint_count = len(type_hints) if type_hints else 0
        for index, payload in enumerate(payloads):
            type_hint = type_hints[index] if type_hints and index < hint_count else None
            if type_hint is RawValue:
                values.append(RawValue(payload))
                continue
            converter = self.converters.get(payload.metadata.get("encoding", b"<unknown>"))
            if converter is None:
                _raise_unknown_encoding(index, payload, type_hint, self.converters)
            try:
                values.append(converter.from_payload(payload, type_hint))
            except Exception as error:  # Whatever it was: say where.
                _raise_payload_error(index, payload, type_hint, error)
        return values

    def with_context(self, context: SerializationContext) -> Self:
        """Return a converter whose converters use the context, or this one if none of them does."""
        converters = self.get_converters_with_context(context)
        if converters is None:
            return self
        made = type(self)()
        made._set_converters(*converters)
        return made

    def get_converters_with_context(
        self, context: SerializationContext
    ) -> list[EncodingPayloadConverter] | None:
        """Return the converters with the context, or None if it makes no difference to any of them."""
        if not self._any_converter_takes_context:
            return None
        converters = [
            converter.with_context(context) if isinstance(converter, WithSerializationContext) else converter
            for converter in self.converters.values()
        ]
        is_changed = any(
            new is not old for new, old in zip(converters, self.converters.values(), strict=True)
        )
        return converters if is_changed else None

    @functools.cached_property
    def _any_converter_takes_context(self) -> bool:
        return any(isinstance(converter, WithSerializationContext) for converter in self.converters.values())


def _payload_maker(encoding: bytes) -> Callable[[bytes], Payload]:
    """Return a function that makes payloads of one encoding from their data.

    Copying a payload that has its metadata already takes less than half the time of making one from keywords.
    """
    template = Payload(metadata={"encoding": encoding})

    def make(data: bytes) -> Payload:
        payload = Payload()
        payload.CopyFrom(template)
        payload.data = data
        return payload

    return make


def _names(encodings: Iterable[bytes]) -> str:
    return ", ".join(encoding.decode(errors="replace") for encoding in encodings)


def _encoding_of(payload: Payload) -> str:
    return payload.metadata.get("encoding", b"<unknown>").decode(errors="replace")


def _raise_unknown_encoding(index: int, payload: Payload, type_hint: Any, known: Iterable[bytes]) -> NoReturn:
    encoding = _encoding_of(payload)
    raise UnknownPayloadEncodingError(
        f"Unknown payload encoding {encoding} of the payload at index {index}: this converter knows {_names(known)}."
        " Give the client or worker that reads it the data converter and payload codec of the one that wrote it",
        index=index,
        encoding=encoding,
        type_hint=type_hint,
    )


def _raise_payload_error(index: int, payload: Payload, type_hint: Any, error: Exception) -> NoReturn:
    """Raise what says which payload, encoding and type were concerned, as the kind of error that it is."""
    if isinstance(error, (PayloadError, ExternalStorageNotConfiguredError)):
        raise error
    encoding = _encoding_of(payload)
    place = f"Payload at index {index} with encoding {encoding} could not be converted"
    if type_hint is not None:
        place += f" to {getattr(type_hint, '__qualname__', type_hint)}"
    if isinstance(error, TypeError):
        raise PayloadTypeError(
            f"{place}: {error}. Correct the type hint of the parameter or result, or what was sent",
            index=index,
            encoding=encoding,
            type_hint=type_hint,
        ) from error
    if isinstance(error, (RuntimeError, UnicodeDecodeError)):
        raise PayloadParseError(
            f"{place}: {error}. It was damaged, or encoded by a payload codec that is not in use here",
            index=index,
            encoding=encoding,
            type_hint=type_hint,
        ) from error
    # An error of a converter of the user, which may be caught by its class.
    error.add_note(place)
    raise error


class DefaultPayloadConverter(CompositePayloadConverter):
    """Converts None, bytes, protobuf messages and everything that JSON can hold, as all Temporal SDKs do."""

    default_encoding_payload_converters: tuple[EncodingPayloadConverter, ...]
    """The converters it is made of."""

    def __init__(self) -> None:
        """Create the converter."""
        super().__init__(*DefaultPayloadConverter.default_encoding_payload_converters)


_make_null = _payload_maker(b"binary/null")
_make_plain = _payload_maker(b"binary/plain")


class BinaryNullPayloadConverter(EncodingPayloadConverter):
    """`binary/null`: None."""

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "binary/null"

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class."""
        return _make_null(b"") if value is None else None

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """See the base class."""
        if payload.data:
            raise RuntimeError(f"it should have no data but has {len(payload.data)} bytes")
        return None


class BinaryPlainPayloadConverter(EncodingPayloadConverter):
    """`binary/plain`: bytes."""

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "binary/plain"

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class."""
        if isinstance(value, bytes):
            return _make_plain(value)
        return None

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """See the base class."""
        return payload.data


class JSONProtoPayloadConverter(EncodingPayloadConverter):
    """`json/protobuf`: protobuf messages as JSON."""

    def __init__(self, ignore_unknown_fields: bool = False) -> None:
        """Create the converter.

        Args:
            ignore_unknown_fields: Whether a payload may have fields that its message does not have.
        """
        super().__init__()
        self._ignore_unknown_fields = ignore_unknown_fields

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "json/protobuf"

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class."""
        if not isinstance(value, Message) or value.DESCRIPTOR is None:
            return None
        fields = google.protobuf.json_format.MessageToDict(value, descriptor_pool=_pool_of(value))
        return Payload(
            metadata={"encoding": b"json/protobuf", "messageType": value.DESCRIPTOR.full_name.encode()},
            data=json.dumps(fields, separators=(",", ":"), sort_keys=True).encode(),
        )

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """See the base class."""
        message = _new_message(payload, type_hint)
        if message.DESCRIPTOR.full_name == _REFERENCE_NAME and type_hint is not type(message):
            # Whoever wants the value and gets here has no external storage; with one, the value is in its place.
            raise ExternalStorageNotConfiguredError
        try:
            return google.protobuf.json_format.Parse(
                payload.data,
                message,
                ignore_unknown_fields=self._ignore_unknown_fields,
                descriptor_pool=_pool_of(message),
            )
        except google.protobuf.json_format.ParseError as error:
            raise RuntimeError(f"its JSON is not a {message.DESCRIPTOR.full_name}: {error}") from error


class BinaryProtoPayloadConverter(EncodingPayloadConverter):
    """`binary/protobuf`: protobuf messages in protobuf's own format."""

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "binary/protobuf"

    def to_payload(self, value: Any) -> Payload | None:
        """See the base class."""
        if not isinstance(value, Message) or value.DESCRIPTOR is None:
            return None
        return Payload(
            metadata={"encoding": b"binary/protobuf", "messageType": value.DESCRIPTOR.full_name.encode()},
            data=value.SerializeToString(),
        )

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """See the base class."""
        message = _new_message(payload, type_hint)
        try:
            message.ParseFromString(payload.data)
        except DecodeError as error:
            raise RuntimeError(f"its bytes are not a {message.DESCRIPTOR.full_name}: {error}") from error
        return message


_REFERENCE_NAME = "temporal.api.sdk.v1.ExternalStorageReference"


def _pool_of(message: Message) -> Any:
    """Return the pool in which messages inside an `Any` of this message are found."""
    return message.DESCRIPTOR.file.pool


def _new_message(payload: Payload, type_hint: Any) -> Message:
    """Return an empty message of the type that a payload names.

    Raises:
        RuntimeError: No module with that message has been imported.
    """
    name = payload.metadata.get("messageType", b"<unknown>").decode(errors="replace")
    # Messages of one name may exist twice: ours, and those of another library that knows the protocol.
    if (
        isinstance(type_hint, type)
        and issubclass(type_hint, Message)
        and type_hint.DESCRIPTOR.full_name == name
    ):
        return type_hint()
    try:
        if name.startswith("temporal."):
            return registry.message_class(name)()
        return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))()
    except KeyError:
        # Perhaps it is one of those that come with the contract.
        pass
    try:
        return registry.message_class(name)()
    except KeyError as error:
        raise RuntimeError(
            f"Unknown Protobuf type {name}: import the module generated for it before payloads of it are read"
        ) from error


class _TemporalTransferTypePayloadConverter(PayloadConverter, WithSerializationContext):
    """Applies transfer types before and after another converter."""

    def __init__(self, inner_payload_converter: PayloadConverter) -> None:
        self._inner_payload_converter = inner_payload_converter

    @staticmethod
    def wrap(payload_converter: PayloadConverter) -> PayloadConverter:
        """Return a converter that applies transfer types: the given one if it does so already."""
        if isinstance(payload_converter, _TemporalTransferTypePayloadConverter):
            return payload_converter
        return _TemporalTransferTypePayloadConverter(payload_converter)

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """See the base class."""
        transferred = []
        for value in values:
            value_type = type(value)
            if value_type not in _PLAIN_TYPES:
                converter = _get_transfer_type_converter(value_type)
                if converter is not None:
                    value = converter.to_transfer_type(value)
            transferred.append(value)
        return self._inner_payload_converter.to_payloads(transferred)

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """See the base class."""
        if type_hints is None:
            return self._inner_payload_converter.from_payloads(payloads, None)
        converters = [_get_transfer_type_converter(type_hint) for type_hint in type_hints]
        if not any(converters):
            return self._inner_payload_converter.from_payloads(payloads, type_hints)
        inner_hints = [
            type_hint if converter is None else converter.transfer_type
            for converter, type_hint in zip(converters, type_hints, strict=True)
        ]
        values = self._inner_payload_converter.from_payloads(payloads, cast(list[type], inner_hints))
        return [
            value if converter is None else converter.from_transfer_type(value, type_hint)
            for value, converter, type_hint in zip(values, converters, type_hints, strict=False)
        ]

    def with_context(self, context: SerializationContext) -> Self:
        """See the base class."""
        if not isinstance(self._inner_payload_converter, WithSerializationContext):
            return self
        inner = self._inner_payload_converter.with_context(context)
        return self if inner is self._inner_payload_converter else type(self)(inner)


_PLAIN_TYPES = frozenset({str, int, float, bool, dict, list, tuple})
"""Types that only JSON is for; subclasses of them are not meant."""

_NOT_FOR_PLAIN_TYPES = frozenset(
    {
        BinaryNullPayloadConverter,
        BinaryPlainPayloadConverter,
        JSONProtoPayloadConverter,
        BinaryProtoPayloadConverter,
    }
)
"""Converters that never take a value of `_PLAIN_TYPES`, so that they need not be asked."""


def takes_context(part: object) -> bool:
    """Whether a context can make a difference to a converter, codec or storage."""
    if isinstance(part, _TemporalTransferTypePayloadConverter):
        part = part._inner_payload_converter
    if (
        isinstance(part, CompositePayloadConverter)
        and type(part).with_context is CompositePayloadConverter.with_context
        and type(part).get_converters_with_context is CompositePayloadConverter.get_converters_with_context
    ):
        return any(isinstance(each, WithSerializationContext) for each in part.converters.values())
    return isinstance(part, WithSerializationContext)
