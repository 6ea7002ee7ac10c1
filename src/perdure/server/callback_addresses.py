"""Which addresses completion callbacks may have, as `component.callbacks.allowedAddresses` says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from perdure.api.common.v1 import Callback
from perdure.core.errors import InvalidArgumentError, UnimplementedError
from perdure.core.run.callback import SYSTEM_URL
from perdure.core.run.limits import Limits


@dataclass(frozen=True, slots=True)
class AddressRule:
    """One rule: hosts with ports that match `pattern` (`*` stands for anything) are allowed; by https unless
    `is_insecure_allowed`."""

    pattern: str
    is_insecure_allowed: bool = False

    def matches(self, host: str) -> bool:
        """Whether the rule is about this `host:port`."""
        parts = (re.escape(part) for part in self.pattern.split("*"))
        return re.fullmatch(".*".join(parts), host) is not None


def read_rules(value: Any) -> tuple[AddressRule, ...]:
    """The rules of a dynamic configuration value: a list of objects with `Pattern` and `AllowInsecure`.

    Raises:
        ValueError: it is none.
    """
    message = 'it must be a list such as [{"Pattern": "*.example.com:443", "AllowInsecure": false}]'
    if not isinstance(value, list):
        raise ValueError(message)
    rules = []
    for entry in value:
        if not isinstance(entry, dict):
            raise ValueError(message)
        fields = {str(key).lower(): part for key, part in entry.items()}
        pattern, insecure = fields.get("pattern", ""), fields.get("allowinsecure", False)
        if not isinstance(pattern, str) or not isinstance(insecure, bool):
            raise ValueError(message)
        if pattern:
            rules.append(AddressRule(pattern, insecure))
    return tuple(rules)


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
        if variant != "nexus":
            raise UnimplementedError(f"unknown callback variant: {variant or '<nil>'}")
        _check_url(callback.nexus.url, rules, limits)
        header = {name.lower(): value for name, value in callback.nexus.header.items()}
        size = sum(len(name.encode()) + len(value.encode()) for name, value in callback.nexus.header.items())
        if size > limits.callback_header_bytes:
            raise InvalidArgumentError(
                f"invalid header: header size longer than max allowed size of {limits.callback_header_bytes}"
            )
        callback.nexus.header.clear()
        callback.nexus.header.update(header)


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
