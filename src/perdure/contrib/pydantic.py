"""A data converter for everything that Pydantic 2 can turn into JSON and back.

Pass `pydantic_data_converter` as `data_converter` when connecting a client. Needs the extra `perdure[pydantic]`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

try:
    from pydantic import TypeAdapter
    from pydantic_core import SchemaSerializer, to_json
    from pydantic_core.core_schema import any_schema
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "perdure.contrib.pydantic needs Pydantic 2: pip install 'perdure[pydantic]'", name=error.name
    ) from error

from perdure.api.common.v1 import Payload
from perdure.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
)

_DEFAULT_CACHE_SIZE = 1024


@dataclass
class ToJsonOptions:
    """How models become JSON."""

    exclude_unset: bool = False
    """Leave out fields that nobody set."""


class _Hint:
    """A type hint as a key: what is equal and reads the same, such as `list[Item]` made anew for each call.

    It has to read the same because `int | float == float | int`, but they validate differently. A hint without a hash
    is only the same as itself.
    """

    __slots__ = ("_hash", "hint")

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        try:
            self._hash = hash(hint)
        except TypeError:
            self._hash = id(hint)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Hint):
            return False
        return other.hint is self.hint or (other.hint == self.hint and repr(other.hint) == repr(self.hint))


def _make_adapter(key: _Hint) -> TypeAdapter[Any]:
    return TypeAdapter(key.hint)


class PydanticJSONPlainPayloadConverter(EncodingPayloadConverter):
    """`json/plain` through Pydantic: models, dataclasses, dates and times, sets, UUIDs and what is made of them.

    It can be pickled; what it has cached stays behind.
    """

    def __init__(
        self,
        to_json_options: ToJsonOptions | None = None,
        *,
        max_cached_type_adapters: int | None = _DEFAULT_CACHE_SIZE,
    ) -> None:
        """Create the converter.

        Args:
            to_json_options: How models become JSON.
            max_cached_type_adapters: How many types' adapters are kept, those used last; None for no limit,
                0 for none at all.

        Raises:
            ValueError: The number is negative.
        """
        if max_cached_type_adapters is not None and max_cached_type_adapters < 0:
            raise ValueError("max_cached_type_adapters cannot be negative")
        self._schema_serializer = SchemaSerializer(any_schema())
        self._to_json_options = to_json_options
        self._max_cached_type_adapters = max_cached_type_adapters
        self._make_cache()

    def _make_cache(self) -> None:
        self._type_adapter: Any = functools.lru_cache(maxsize=self._max_cached_type_adapters)(_make_adapter)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the cache."""
        return {name: value for name, value in self.__dict__.items() if name != "_type_adapter"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, with an empty cache."""
        self.__dict__.update(state)
        self._make_cache()

    @property
    def encoding(self) -> str:
        """See the base class."""
        return "json/plain"

    def to_payload(self, value: Any) -> Payload | None:
        """Turn a value into a payload, with Pydantic's serializers.

        Raises:
            pydantic_core.PydanticSerializationError: Pydantic cannot serialize it.
        """
        if self._to_json_options is None:
            data = to_json(value)
        else:
            data = self._schema_serializer.to_json(value, exclude_unset=self._to_json_options.exclude_unset)
        return Payload(metadata={"encoding": b"json/plain"}, data=data)

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Turn a payload into a value, with Pydantic's validators.

        Raises:
            pydantic.ValidationError: What it holds does not fit the type.
        """
        return self._adapter_of(Any if type_hint is None else type_hint).validate_json(payload.data)

    def _adapter_of(self, type_hint: Any) -> TypeAdapter[Any]:
        adapter: TypeAdapter[Any] = self._type_adapter(_Hint(type_hint))
        return adapter


class PydanticPayloadConverter(CompositePayloadConverter):
    """The default payload converter with Pydantic in place of JSON.

    For other options make a subclass whose constructor takes no arguments, and pass it as the
    `payload_converter_class` of a `DataConverter`.
    """

    def __init__(
        self,
        to_json_options: ToJsonOptions | None = None,
        *,
        max_cached_type_adapters: int | None = _DEFAULT_CACHE_SIZE,
    ) -> None:
        """Create the converter; the arguments are those of `PydanticJSONPlainPayloadConverter`."""
        pydantic_converter = PydanticJSONPlainPayloadConverter(
            to_json_options, max_cached_type_adapters=max_cached_type_adapters
        )
        super().__init__(
            *(
                pydantic_converter if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


pydantic_data_converter = DataConverter(payload_converter_class=PydanticPayloadConverter)
"""The data converter to pass to a client."""
