"""Behaviour flags and the worker's name in a history: what earlier completions recorded, what the next one has to.

The flags of the run itself (`core_used_flags`) are those of the official workers: 1 ids and types are compared on
replay, 2 a patch also writes the search attribute TemporalChangeVersion, 3 closing commands are sent last, 4 markers of
local activities say in which activation the code was told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from perdure.api.sdk.v1 import WorkflowTaskCompletedMetadata

COMPARES_IDS: Final = 1
UPSERTS_PATCHES: Final = 2
CLOSES_LAST: Final = 3
NUMBERS_ACTIVATIONS: Final = 4
_KNOWN: Final = frozenset({COMPARES_IDS, UPSERTS_PATCHES, CLOSES_LAST, NUMBERS_ACTIVATIONS})
_OUR_NAME: Final = "perdure-"


class Flags:
    """Flags of one run.

    Attributes:
        core, lang: recorded in history, for the run and for the code.
        sdk_version: of the worker that wrote history last; empty when unknown.
    """

    __slots__ = (
        "_enabled",
        "_name",
        "_own_name",
        "_own_version",
        "_used_lang",
        "core",
        "lang",
        "sdk_version",
    )

    def __init__(self, enabled: bool, own_name: str, own_version: str) -> None:
        self._enabled = enabled
        self._own_name = own_name
        self._own_version = own_version
        self._name = ""
        self._used_lang: set[int] = set()
        self.core: set[int] = set()
        self.lang: set[int] = set()
        self.sdk_version = ""

    def read(self, metadata: WorkflowTaskCompletedMetadata) -> None:
        """Takes what a completed workflow task recorded."""
        if not self._enabled:
            return
        self.core.update(metadata.core_used_flags)
        self.lang.update(metadata.lang_used_flags)
        self._name = metadata.sdk_name or self._name
        self.sdk_version = metadata.sdk_version or self.sdk_version

    @property
    def tells_local_activities_apart(self) -> bool:
        """History was written by a worker of ours before markers said in which activation the code was told."""
        return self._name.startswith(_OUR_NAME) and NUMBERS_ACTIVATIONS not in self.core

    def may_use(self, flag: int, is_new: bool) -> bool:
        """Whether the run may behave as the flag says: always for new work, else only if history recorded it."""
        return self._enabled and (is_new or flag in self.core)

    def use_lang(self, flags: Iterable[int]) -> None:
        """The code used these flags of its own."""
        self._used_lang.update(flags)

    def for_completion(self) -> WorkflowTaskCompletedMetadata | None:
        """What the next completion has to record; None when there is nothing new."""
        if not self._enabled:
            return None
        core, lang = _KNOWN - self.core, self._used_lang - self.lang
        name = self._own_name if self._own_name != self._name else ""
        version = self._own_version if self._own_version != self.sdk_version else ""
        self.core |= core
        self.lang |= lang
        self._used_lang.clear()
        if not (core or lang or name or version):
            return None
        return WorkflowTaskCompletedMetadata(
            core_used_flags=sorted(core), lang_used_flags=sorted(lang), sdk_name=name, sdk_version=version
        )
