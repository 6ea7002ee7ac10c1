"""Forms with files: `multipart/form-data`, as browsers send it, whole and in memory."""

from __future__ import annotations

from email.message import Message
from email.parser import HeaderParser
from typing import Final

MULTIPART: Final = "multipart/form-data"
_MOST_PARTS: Final = 100


def read_multipart(content_type: str, body: bytes) -> dict[str, list[str]]:
    """The fields of a form and the contents of its files, as texts.

    Args:
        content_type: of the request, with the boundary between the parts.
        body: of the request.

    Raises:
        ValueError: it is not such a form.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if not boundary or not boundary.isascii():
        raise ValueError("it does not say what is between its parts")
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode(), _MOST_PARTS + 1)
    if first or not parts or not parts[-1].startswith(b"--"):
        raise ValueError(f"it is not whole, or has more than {_MOST_PARTS} parts")
    found: dict[str, list[str]] = {}
    for part in parts[:-1]:
        head, blank, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = HeaderParser().parsestr(head.decode("utf-8", "replace"))
        name = headers.get_param("name", header="content-disposition")
        if not blank or not isinstance(name, str):
            raise ValueError("a part of it has no name")
        # A file may be anything at all; what is no text is found out by who reads it.
        found.setdefault(name, []).append(content.decode("utf-8-sig", "replace"))
    return found
