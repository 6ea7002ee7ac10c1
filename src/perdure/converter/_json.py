"""`json/plain`: the encoding of everything that is not None, bytes or a protobuf message."""

from __future__ import annotations

import dataclasses
import json
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from perdure.api.common.v1 import Payload
from perdure.converter._payload_converter import (
    BinaryNullPayloadConverter,
    BinaryPlainPayloadConverter,
    BinaryProtoPayloadConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONProtoPayloadConverter,
    _payload_maker,
)
from perdure.converter._type_hints import JSONTypeConverter, TypePlanner


class AdvancedJSONEncoder(json.JSONEncoder):
    """Encodes, beside what JSON has, datetimes, dataclasses, UUIDs and all iterables.

    Objects with a method `dict` are encoded as what it returns, which models of Pydantic 1 rely on; for those of
    Pydantic 2 there is `perdure.contrib.pydantic`.
    """

    def default(self, o: Any) -> Any:
        """Return something that JSON has for an object that it has not; see `json.JSONEncoder.default`."""
        if isinstance(o, datetime):
            return o.isoformat()
        if dataclasses.is_dataclass(o) and not isinstance(o, type):
            if type(self) is not AdvancedJSONEncoder:
                # A subclass sees the dataclass, and not the dataclasses inside it.
                return dataclasses.asdict(o)
            return {name: getattr(o, name) for name in _field_names(type(o))}
        if hasattr(o, "__await__"):
            raise _refusal(o, "an `await` is missing where it comes from")
        as_dict = getattr(o, "dict", None)
        if callable(as_dict):
            return as_dict()
        if isinstance(o, Iterable) and not isinstance(o, list):
            return list(o)
        if isinstance(o, uuid.UUID):
            return str(o)
        raise _refusal(
            o, "use what JSON has, dataclasses or Pydantic models, or a data converter of your own"
        )


def _refusal(value: Any, advice: str) -> TypeError:
    return TypeError(f"Object of type {type(value).__name__} is not JSON serializable: {advice}")


@lru_cache(maxsize=1024)
def _field_names(dataclass: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(dataclass))


_SCALAR_ENCODERS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
}

_raw_decode = json.JSONDecoder().raw_decode


def _loads(data: bytes) -> Any:
    """Do what `json.loads` does, in a third of the time for JSON without space around it."""
    try:
        text = data.decode()
        value, end = _raw_decode(text)
        if end == len(text):
            return value
    except ValueError:
        # Not JSON, or not quite: the slow way knows all forms and words the error.
        pass
    return json.loads(data)


def _encode_function(encoder_class: type[json.JSONEncoder], can_share: bool) -> Callable[[Any], str]:
    """Return a function that encodes a value with a class of encoders.

    Args:
        encoder_class: The class.
        can_share: Whether one encoder may serve all values; one of a user may keep state.
    """

    def make_encoder() -> json.JSONEncoder:
        return encoder_class(separators=(",", ":"), sort_keys=True)

    if can_share:
        return make_encoder().encode
    return lambda value: make_encoder().encode(value)


class JSONPlainPayloadConverter(EncodingPayloadConverter):
    """Converts what an encoder can turn into JSON, and rebuilds it as its type hint says."""

    def __init__(
        self,
        *,
        encoder: type[json.JSONEncoder] | None = AdvancedJSONEncoder,
        decoder: type[json.JSONDecoder] | None = None,
        encoding: str = "json/plain",
        custom_type_converters: Sequence[JSONTypeConverter] = (),
    ) -> None:
        """Create the converter.

        Args:
            encoder: Class of the encoder.
            decoder: Class of the decoder.
            encoding: Name of the encoding on the wire.
            custom_type_converters: Asked first, in order, for every type that a hint names.
        """
        super().__init__()
        self._encoder = encoder
        self._decoder = decoder
        self._encoding = encoding
        self._custom_type_converters = custom_type_converters
        self._prepare()

    def _prepare(self) -> None:
        """Make what a conversion would otherwise make each time."""
        self._make_payload = _payload_maker(self._encoding.encode())
        self._planner = TypePlanner(self._custom_type_converters)
        is_ours = self._encoder in (None, json.JSONEncoder, AdvancedJSONEncoder)
        self._scalar_encoders = _SCALAR_ENCODERS if is_ours else {}
        self._encode = _encode_function(self._encoder or json.JSONEncoder, can_share=is_ours)

    def __getstate__(self) -> dict[str, Any]:
        """Return what the converter was made from; functions cannot be pickled."""
        prepared = ("_make_payload", "_planner", "_scalar_encoders", "_encode")
        return {name: value for name, value in self.__dict__.items() if name not in prepared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        self.__dict__.update(state)
        self._prepare()

    @property
    def encoding(self) -> str:
        """See the base class."""
        return self._encoding

    def to_payload(self, value: Any) -> Payload | None:
        """Turn a value into a payload.

        Raises:
            TypeError: The encoder cannot encode it.
            ValueError: The value contains itself.
        """
        encode_scalar = self._scalar_encoders.get(type(value))
        if encode_scalar is not None:
            text = encode_scalar(value)
        else:
            if hasattr(value, "parse_obj"):
                warnings.warn(
                    f"{type(value).__name__} looks like a Pydantic model: for models of Pydantic 2 use"
                    " perdure.contrib.pydantic.pydantic_data_converter; those of Pydantic 1 need a converter of"
                    " your own",
                    stacklevel=2,
                )
            text = self._encode(value)
        return self._make_payload(text.encode())

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Turn a payload into a value.

        Raises:
            RuntimeError: The payload holds no JSON.
            TypeError: What it holds does not fit the type.
        """
        try:
            value = (
                _loads(payload.data) if self._decoder is None else json.loads(payload.data, cls=self._decoder)
            )
        except json.JSONDecodeError as error:
            raise RuntimeError(f"it holds no JSON: {error}") from error
        return value if type_hint is None else self._planner.plan(type_hint)(value)


# Here and not where the class is, because JSON comes last: it raises an error for what it does not know.
DefaultPayloadConverter.default_encoding_payload_converters = (
    BinaryNullPayloadConverter(),
    BinaryPlainPayloadConverter(),
    JSONProtoPayloadConverter(),
    BinaryProtoPayloadConverter(),
    JSONPlainPayloadConverter(),
)
