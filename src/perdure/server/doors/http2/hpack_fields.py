"""Header fields in HPACK's plainest form, as we write them; and where fields begin and end in a block, as we read them.

What is here needs no table: answers are literals that no table remembers, and the walk looks at lengths only.
"""

from __future__ import annotations

from collections.abc import Iterator

_LENGTH_MASK = 0x7F


def _length(value: int) -> bytes:
    if value < _LENGTH_MASK:
        return bytes((value,))
    encoded = bytearray((_LENGTH_MASK,))
    value -= _LENGTH_MASK
    while value >= 128:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field(name: bytes, value: bytes) -> bytes:
    """A header field as a literal without indexing and without Huffman coding."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def literal_names(block: bytes) -> Iterator[tuple[int, int]]:
    """The fields of a well-formed block whose names are spelled out.

    Args:
        block: a block that a decoder has accepted.

    Yields:
        where the length byte of the name stands, and where that of the value stands.
    """
    position, end = 0, len(block)
    while position < end:
        first = block[position]
        if first & 0x80:
            _, position = _integer(block, position, 0x7F)
        elif first & 0xE0 == 0x20:
            _, position = _integer(block, position, 0x1F)
        else:
            index, position = _integer(block, position, 0x3F if first & 0x40 else 0x0F)
            name_at = position
            if not index:
                size, position = _integer(block, position, _LENGTH_MASK)
                position += size
            value_at = position
            size, position = _integer(block, position, _LENGTH_MASK)
            position += size
            if not index:
                yield name_at, value_at


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
