"""Which addresses completion callbacks may have, as `component.callbacks.allowedAddresses` says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


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
