"""Transfer types: classes that say which other type stands for them on the wire.

Experimental, as in the SDK whose names these are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

ValueT = TypeVar("ValueT")
TransferTypeT = TypeVar("TransferTypeT")

_CONVERTER_ATTRIBUTE = "__temporal_transfer_type_converter"


class TransferTypeConverter(Generic[ValueT, TransferTypeT], ABC):
    """Turns values of a class into values of another type, which is what a payload holds, and back."""

    transfer_type: type[TransferTypeT] | None = None
    """The type to decode a payload to, before `from_transfer_type`."""

    @abstractmethod
    def to_transfer_type(self, value: ValueT) -> TransferTypeT:
        """Return what stands for the value on the wire."""
        raise NotImplementedError

    @abstractmethod
    def from_transfer_type(self, value: TransferTypeT, type_hint: type[ValueT]) -> ValueT:
        """Return the value that something from the wire stands for.

        Args:
            value: What the payload held.
            type_hint: The type asked for, with its type arguments.
        """
        raise NotImplementedError


class _TransferTypeConvertibleDecorator(Generic[ValueT, TransferTypeT]):
    def __init__(self, converter_type: type[TransferTypeConverter[ValueT, TransferTypeT]]) -> None:
        self._converter_type = converter_type

    def __call__(self, cls: type[ValueT]) -> type[ValueT]:
        if hasattr(cls, _CONVERTER_ATTRIBUTE):
            raise TypeError(
                f"class already has a transfer type converter: {cls.__qualname__} or one of its bases is decorated"
            )
        setattr(cls, _CONVERTER_ATTRIBUTE, self._converter_type())
        return cls


def transfer_type_convertible(
    converter_type: type[TransferTypeConverter[ValueT, TransferTypeT]],
) -> _TransferTypeConvertibleDecorator[ValueT, TransferTypeT]:
    """Return a decorator that gives a class its transfer type converter.

    Args:
        converter_type: Class of the converter; it is instantiated without arguments.
    """
    return _TransferTypeConvertibleDecorator(converter_type)


def _get_transfer_type_converter(value_type: object) -> TransferTypeConverter[Any, Any] | None:
    converter = getattr(value_type, _CONVERTER_ATTRIBUTE, None)
    # Nearly all types have none, and asking an abstract class takes its time.
    return converter if converter is not None and isinstance(converter, TransferTypeConverter) else None
