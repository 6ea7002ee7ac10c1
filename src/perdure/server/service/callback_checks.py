"""Checks of completion callbacks that come with requests."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from perdure.api.common.v1 import Callback
from perdure.core.errors import InvalidArgumentError, UnimplementedError
from perdure.core.run.callback import SYSTEM_URL
from perdure.core.run.limits import Limits
from perdure.server.callback_addresses import AddressRule


def check(callbacks: Sequence[Callback], rules: Sequence[AddressRule], limits: Limits) -> None:
    """Checks callbacks of a request; puts the names of their headers into lower case.

    Raises:
        InvalidArgumentError: one cannot be accepted.
        UnimplementedError: one is of an unknown kind.
    """
    if len(callbacks) > limits.callbacks:
        raise InvalidArgumentError(f"cannot attach more than {limits.callbacks} callbacks to an execution")
    for callback in callbacks:
        variant = callback.WhichOneof("variant")
        if variant is None:
            raise UnimplementedError("unknown callback variant: <nil>")
        if variant == "internal":
            continue
        _check_url(callback.nexus.url, rules, limits)
        header = {name.lower(): value for name, value in callback.nexus.header.items()}
        size = sum(len(name.encode()) + len(value.encode()) for name, value in callback.nexus.header.items())
        if size > limits.callback_header_bytes:
            raise InvalidArgumentError(
                f"invalid header: header size longer than max allowed size of {limits.callback_header_bytes}"
            )
        callback.nexus.header.clear()
        callback.nexus.header.update(header)
    if any(callback.HasField("internal") for callback in callbacks):
        # The words are those of Temporal's server, which finds it later than what is wrong with others.
        raise InvalidArgumentError("unsupported callback variant: *common.Callback_Internal_")


def _check_url(url: str, rules: Sequence[AddressRule], limits: Limits) -> None:
    if len(url.encode()) > limits.callback_url_bytes:
        raise InvalidArgumentError(
            f"invalid url: url length longer than max length allowed of {limits.callback_url_bytes}"
        )
    if url == SYSTEM_URL:
        return
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidArgumentError(f"invalid callback url: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidArgumentError(f"invalid url: unknown scheme: {url}")
    if not parts.netloc:
        raise InvalidArgumentError("invalid url: missing host")
    host = parts.netloc.rpartition("@")[2]
    for rule in rules:
        if rule.matches(host):
            if parts.scheme == "https" or rule.is_insecure_allowed:
                return
            raise InvalidArgumentError(
                f"invalid url: callback address does not allow insecure connections: {url}"
            )
    raise InvalidArgumentError(f"invalid url: url does not match any configured callback address: {url}")
