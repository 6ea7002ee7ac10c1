"""The namespaces: names, retention, and each one's own search attributes. Kept in the store, held in memory whole.

A namespace is found by name once, at the edge; everything behind works with its id, so one can never see another's
data.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from perdure.api.enums.v1 import NamespaceState
from perdure.api.namespace.v1 import NamespaceConfig, NamespaceInfo
from perdure.core.errors import (
    InvalidArgumentError,
    NamespaceAlreadyExistsError,
    NamespaceInvalidStateError,
    NamespaceNotFoundError,
)
from perdure.core.run.protos import duration_ns
from perdure.core.visibility.attributes import AttributeType
from perdure.server.registry import Registry
from perdure.store.protocol import Store, StoredNamespace

REGISTERED: Final = NamespaceState.Value("NAMESPACE_STATE_REGISTERED")
DEPRECATED: Final = NamespaceState.Value("NAMESPACE_STATE_DEPRECATED")
DELETED: Final = NamespaceState.Value("NAMESPACE_STATE_DELETED")
OPEN_STATES: Final = (REGISTERED, DEPRECATED)
"""A deprecated namespace's workflows go on; a deleted one's are being removed."""
STARTABLE_STATES: Final = (REGISTERED,)
ALL_STATES: Final = (REGISTERED, DEPRECATED, DELETED)
SHORTEST_DELETED_SUFFIX: Final = 5
_STATE_NAMES: Final = {
    0: "Unspecified",
    REGISTERED: "Registered",
    DEPRECATED: "Deprecated",
    DELETED: "Deleted",
}


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace.

    Attributes:
        namespace_id, name: its UUID and its name.
        info, config: what the wire says of it, without what the server adds (capabilities, limits).
        search_attributes: its own attributes by name.
        retired_attributes: names of removed ones whose values are still to be taken out of the lists.
        version: of the stored row.
        removal_delay_ns: for how long its row stays once it is deleted and everything in it is removed.
        removal_ns: when that delay is over; 0 before it has begun.
    """

    namespace_id: str
    name: str
    info: NamespaceInfo
    config: NamespaceConfig
    search_attributes: Mapping[str, AttributeType] = field(default_factory=dict)
    version: int = 0
    retired_attributes: tuple[str, ...] = ()
    removal_delay_ns: int = 0
    removal_ns: int = 0

    @property
    def is_being_removed(self) -> bool:
        """Whether a request to delete it has renamed it. One whose state alone was set to deleted keeps what it has."""
        return self.info.state == DELETED and self.deleted_suffix() in self.name

    def deleted_suffix(self, length: int = SHORTEST_DELETED_SUFFIX) -> str:
        """What is put behind its name when it is deleted, with so much of its id; no other namespace's name has it."""
        return f"-deleted-{self.namespace_id[:length]}"

    @property
    def retention_ns(self) -> int:
        """How long closed runs are kept, nanoseconds."""
        return duration_ns(self.config.workflow_execution_retention_ttl)


class Namespaces(Registry):
    """All namespaces of a store, in memory.

    Args:
        store: where they are kept.

    Attributes:
        on_removal: called with a namespace that is found to be removed from now on, whoever asked for it and whatever
            became of the answer.
    """

    def __init__(self, store: Store) -> None:
        super().__init__("namespace")
        self._store = store
        self._by_name: dict[str, Namespace] = {}
        self._by_id: dict[str, Namespace] = {}
        self.on_removal: Callable[[Namespace], None] = _nothing

    async def load(self) -> None:
        """Reads every namespace; called once at start."""
        found = await self._store.list_namespaces()
        self._by_name.clear()
        self._by_id.clear()
        for stored in found:
            self._remember(_decode(stored))

    def get(self, name: str, states: tuple[int, ...] = OPEN_STATES) -> Namespace:
        """The namespace of this name.

        Args:
            name: its name.
            states: the states it may have; `STARTABLE_STATES` where a workflow is to be started.

        Raises:
            InvalidArgumentError: no name given.
            NamespaceNotFoundError: there is none.
            NamespaceInvalidStateError: it is in another state.
        """
        if not name:
            raise InvalidArgumentError("Namespace is empty.")
        namespace = self._by_name.get(name)
        if namespace is None:
            raise NamespaceNotFoundError(name)
        if namespace.info.state not in states:
            raise _invalid_state(namespace, states)
        return namespace

    def has(self, name: str) -> bool:
        """Whether there is a namespace of this name."""
        return name in self._by_name

    def by_id(self, namespace_id: str) -> Namespace | None:
        """The namespace of this id, or None."""
        return self._by_id.get(namespace_id)

    def check_exists(self, namespace_id: str, name: str) -> None:
        """Refuses what would be new in a namespace that was deleted since it was looked up.

        Asked last of all, with nothing awaited before the write: what was on its way by then is seen by the removal.

        Args:
            namespace_id: its id.
            name: what the caller called it.

        Raises:
            NamespaceNotFoundError: it is deleted, or gone.
        """
        found = self._by_id.get(namespace_id)
        if found is None or found.info.state == DELETED:
            raise NamespaceNotFoundError(name)

    def all(self) -> Iterable[Namespace]:
        """Every namespace, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    async def create(self, namespace: Namespace) -> None:
        """Adds a namespace.

        Raises:
            NamespaceAlreadyExistsError: the name is taken.
            UnavailableError: the store cannot write now.
        """
        await self._finished(self._create(replace(namespace, version=1)))

    async def _create(self, namespace: Namespace) -> None:
        await self._without_doubt()
        if namespace.name in self._by_name:
            raise NamespaceAlreadyExistsError("Namespace already exists.")
        await self._put(namespace)

    async def update(self, namespace: Namespace) -> None:
        """Replaces a namespace that `get` returned, changed.

        Raises:
            UnavailableError: somebody else changed it meanwhile, or the store cannot write now.
        """
        await self._finished(self._put(replace(namespace, version=namespace.version + 1)))

    async def delete(self, namespace: Namespace) -> None:
        """Removes a namespace's row; its runs are removed by the caller before.

        Raises:
            UnavailableError: the store cannot write now.
        """
        await self._finished(self._delete(namespace))

    async def _delete(self, namespace: Namespace) -> None:
        await self._written(self._store.delete_namespace(namespace.namespace_id))
        self._by_name.pop(namespace.name, None)
        self._by_id.pop(namespace.namespace_id, None)

    async def _put(self, namespace: Namespace) -> None:
        await self._written(self._store.put_namespace(_encode(namespace)))
        self._remember(namespace)

    def _remember(self, namespace: Namespace) -> None:
        previous = self._by_id.get(namespace.namespace_id)
        if previous is not None:
            self._by_name.pop(previous.name, None)
        self._by_name[namespace.name] = namespace
        self._by_id[namespace.namespace_id] = namespace
        if namespace.is_being_removed:
            self.on_removal(namespace)


def _nothing(namespace: Namespace) -> None:
    pass


def _invalid_state(namespace: Namespace, states: tuple[int, ...]) -> NamespaceInvalidStateError:
    allowed = " or ".join(_STATE_NAMES[state] for state in states)
    return NamespaceInvalidStateError(
        f"Namespace has invalid state: {_STATE_NAMES[namespace.info.state]}. Must be {allowed}.",
        namespace=namespace.name,
        state=namespace.info.state,
        allowed_states=states,
    )


def _encode(namespace: Namespace) -> StoredNamespace:
    document = {
        "info": b64encode(namespace.info.SerializeToString()).decode(),
        "config": b64encode(namespace.config.SerializeToString()).decode(),
        "search_attributes": {name: int(kind) for name, kind in namespace.search_attributes.items()},
        "retired_attributes": list(namespace.retired_attributes),
        "removal_delay_ns": namespace.removal_delay_ns,
        "removal_ns": namespace.removal_ns,
    }
    return StoredNamespace(
        namespace.namespace_id, namespace.name, namespace.version, json.dumps(document).encode()
    )


def _decode(stored: StoredNamespace) -> Namespace:
    document = json.loads(stored.config)
    return Namespace(
        stored.namespace_id,
        stored.name,
        NamespaceInfo.FromString(b64decode(document["info"])),
        NamespaceConfig.FromString(b64decode(document["config"])),
        {name: AttributeType(number) for name, number in document["search_attributes"].items()},
        stored.version,
        tuple(document.get("retired_attributes", ())),
        document.get("removal_delay_ns", 0),
        document.get("removal_ns", 0),
    )
