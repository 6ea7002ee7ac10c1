"""What a run carries with it and its code may change: memo, search attributes, patches, details, randomness."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, cast

from perdure.api.common.v1 import Memo, Payload, SearchAttributes
from perdure.common import (
    SearchAttributeIndexedValueType,
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    SearchAttributeValues,
    _arg_unset,
)
from perdure.common import SearchAttributes as UntypedSearchAttributes
from perdure.converter import encode_search_attribute_values, encode_typed_search_attribute_value
from perdure.core.replay.instructions import ModifyMemo, SetPatch, UpsertSearchAttributes
from perdure.worker.workflow_code.settings import PatchActivationInput

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance

_logger = logging.getLogger(__name__)


class MemoAccess:
    """The memo. Its payloads are those of the run's info, which is kept up to date."""

    __slots__ = ("_converted", "_instance")

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._converted: dict[str, Any] | None = None

    def values(self) -> Mapping[str, Any]:
        """Every value, converted without a type."""
        if self._converted is None:
            converter = self._instance.conversions.workflow.payloads
            self._converted = {
                key: converter.from_payload(payload) for key, payload in self._instance.info.raw_memo.items()
            }
        return self._converted

    def value(self, key: str, default: Any, type_hint: type | None) -> Any:
        """One value.

        Raises:
            KeyError: there is none, and no default.
        """
        payload = self._instance.info.raw_memo.get(key)
        if payload is not None:
            converter = self._instance.conversions.workflow.payloads
            return converter.from_payload(payload, type_hint)
        if default is _arg_unset:
            raise KeyError(f"Memo does not have a value for key {key}")
        return default

    def upsert(self, updates: Mapping[str, Any]) -> None:
        """Sets values; removes those that are None, which history shows even if there was none."""
        if not updates:
            return
        instance = self._instance
        converter = instance.conversions.workflow.payloads
        # Everything is converted before anything is changed.
        payloads = {key: converter.to_payload(value) for key, value in updates.items()}
        memo = Memo()
        for key, payload in payloads.items():
            memo.fields[key].CopyFrom(payload)
        instance.recorder.add(ModifyMemo(memo, instance.recorder.source()))
        kept = cast(MutableMapping[str, Payload], instance.info.raw_memo)
        for key, value in updates.items():
            if value is None:
                kept.pop(key, None)
            else:
                kept[key] = payloads[key]
            if self._converted is not None:
                self._converted.pop(key, None)
                if value is not None:
                    self._converted[key] = converter.from_payload(payloads[key])


def upsert_search_attributes(
    instance: WorkflowInstance, attributes: UntypedSearchAttributes | Sequence[SearchAttributeUpdate[Any]]
) -> None:
    """Changes search attributes, in history and in the run's info."""
    message = SearchAttributes()
    if isinstance(attributes, Mapping):
        for name, values in attributes.items():
            message.indexed_fields[name].CopyFrom(encode_search_attribute_values(values))
    else:
        for update in attributes:
            message.indexed_fields[update.key.name].CopyFrom(
                encode_typed_search_attribute_value(update.key, update.value)
            )
    instance.recorder.add(UpsertSearchAttributes(message, instance.recorder.source()))
    untyped = cast(MutableMapping[str, SearchAttributeValues], instance.info.search_attributes)
    typed = cast(list[SearchAttributePair[Any]], instance.info.typed_search_attributes.search_attributes)
    if isinstance(attributes, Mapping):
        untyped.update(attributes)
        for name, values in attributes.items():
            _put_untyped(typed, name, values)
    else:
        for update in attributes:
            _put_typed(untyped, typed, update)


def _put_untyped(typed: list[SearchAttributePair[Any]], name: str, values: SearchAttributeValues) -> None:
    """Keeps the typed form up to date as well as can be: the deprecated form does not say its types."""
    if not values:
        _replace(typed, name, None)
        return
    key = SearchAttributeKey._guess_from_untyped_values(name, values)
    if key is None:
        return
    is_list = key.indexed_value_type == SearchAttributeIndexedValueType.KEYWORD_LIST
    if is_list or len(values) == 1:
        _replace(typed, name, SearchAttributePair(key, values if is_list else values[0]))


def _put_typed(
    untyped: MutableMapping[str, SearchAttributeValues],
    typed: list[SearchAttributePair[Any]],
    update: SearchAttributeUpdate[Any],
) -> None:
    key, value = update.key, update.value
    if value is None:
        _replace(typed, key.name, None)
        untyped[key.name] = cast(list[str], [])
        return
    _replace(typed, key.name, SearchAttributePair(key, value))
    is_list = key.indexed_value_type == SearchAttributeIndexedValueType.KEYWORD_LIST
    untyped[key.name] = list(value) if is_list else [value]


def _replace(typed: list[SearchAttributePair[Any]], name: str, pair: SearchAttributePair[Any] | None) -> None:
    for index, old in enumerate(typed):
        if old.key.name == name:
            typed[index : index + 1] = [] if pair is None else [pair]
            return
    if pair is not None:
        typed.append(pair)


class Patches:
    """Which changes of the code this run takes part in."""

    __slots__ = ("_answers", "_callback", "_in_history", "_instance")

    def __init__(
        self, instance: WorkflowInstance, callback: Callable[[PatchActivationInput], bool] | None
    ) -> None:
        self._instance = instance
        self._callback = callback
        self._in_history: set[str] = set()
        self._answers: dict[str, bool] = {}

    def note(self, patch_id: str) -> None:
        """History holds this patch."""
        self._in_history.add(patch_id)

    def ask(self, patch_id: str, *, is_deprecated: bool) -> bool:
        """Whether the run takes the new code; the answer stays the same for the whole run."""
        recorder = self._instance.recorder
        recorder.check_writable("patch")
        known = self._answers.get(patch_id)
        if known is not None:
            return known
        answer = self._answers[patch_id] = self._decide(patch_id, is_deprecated)
        if answer:
            recorder.add(SetPatch(patch_id, is_deprecated, recorder.source()))
        return answer

    def _decide(self, patch_id: str, is_deprecated: bool) -> bool:
        if patch_id in self._in_history:
            return True
        if self._instance.is_replaying:
            return False
        if is_deprecated or self._callback is None:
            return True
        with self._instance.recorder.read_only(is_query_or_validator=False):
            answer = self._callback(PatchActivationInput(self._instance.info, patch_id))
        if type(answer) is not bool:
            raise TypeError("Patch activation callback must return true or false")
        return answer


class Randomness:
    """The run's own random numbers."""

    __slots__ = ("_callbacks", "_numbers", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # Made when first asked: it is 2.5 KB and the work of seeding, and most workflows draw no numbers.
        self._numbers: Random | None = None
        self._callbacks: list[Callable[[int], None]] = []

    @property
    def numbers(self) -> Random:
        """The generator; always the same object."""
        if self._numbers is None:
            self._numbers = Random(self.seed)
        return self._numbers

    def on_reseed(self, callback: Callable[[int], None]) -> None:
        """Calls `callback` with every new seed."""
        self._callbacks.append(callback)

    def reseed(self, seed: int) -> None:
        """Goes on from a new seed: the run was reset."""
        self.seed = seed
        if self._numbers is not None:
            self._numbers.seed(seed)
        for callback in self._callbacks:
            try:
                callback(seed)
            except Exception:  # a callback must not keep the workflow from going on
                _logger.exception("A callback for new random seeds failed")
