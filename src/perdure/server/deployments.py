"""The registry of worker deployments: kept in the store, held in memory whole, with the routes that they make."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from perdure.core.deployment import changes
from perdure.core.deployment.routes import NO_ROUTES, QueueName, Routes, split_version
from perdure.core.deployment.state import Deployment, routes
from perdure.core.errors import FailedPreconditionError, NotFoundError, TooManyVersionsError
from perdure.core.run.records import TaskKind
from perdure.core.run.state import encode
from perdure.server.namespaces import Namespaces
from perdure.server.registry import Registry
from perdure.server.runtime import Runtime
from perdure.store.protocol import Store, StoredDeployment

MAX_DEPLOYMENTS = 100
"""Deployments of a namespace: they are all in memory."""
_NO_QUEUES: Final[frozenset[QueueName]] = frozenset()
_DECODER = msgspec.json.Decoder(Deployment)
Change = Callable[[Deployment], Deployment]


@dataclass(frozen=True, slots=True)
class RouteChange:
    """A queue whose tasks go elsewhere now, and the versions that they may be waiting for."""

    queue: QueueName
    versions: frozenset[str]


class Deployments(Registry):
    """All worker deployments of a store, in memory.

    Args:
        store: where they are kept.
        runtime: the clock.
        namespaces: a deleted one has none.

    Attributes:
        on_routes: called with a namespace's id and the queues whose routes changed.
        find_removable: asked for the build id of a deployment's oldest version that nothing uses, when one more is
            wanted than there may be.
    """

    def __init__(self, store: Store, runtime: Runtime, namespaces: Namespaces) -> None:
        super().__init__("worker deployment")
        self._store = store
        self._namespaces = namespaces
        self._runtime = runtime
        self._kept: dict[str, dict[str, tuple[int, Deployment]]] = {}
        self._routes: dict[str, Routes] = {}
        self._lock = asyncio.Lock()
        self.on_routes: Callable[[str, Sequence[RouteChange]], None] = _nothing
        self.find_removable: Callable[[str, str], Awaitable[str | None]] = _none

    async def load(self) -> None:
        """Reads every deployment; called once at start."""
        found = await self._store.list_deployments()
        self._kept.clear()
        for stored in found:
            state = _DECODER.decode(stored.data)
            self._kept.setdefault(stored.namespace_id, {})[stored.name] = (stored.version, state)
        self._routes = {namespace_id: self._made(namespace_id) for namespace_id in self._kept}

    async def _reload(self) -> None:
        before = self._routes
        await self.load()
        for namespace_id in {**before, **self._routes}:
            self._tell(namespace_id, before.get(namespace_id, NO_ROUTES))

    def routes(self, namespace_id: str) -> Routes:
        """The routes of a namespace."""
        return self._routes.get(namespace_id, NO_ROUTES)

    def all_routes(self) -> Iterable[tuple[str, list[RouteChange]]]:
        """Every namespace's queues that versions were polled on, as if all of them had just changed."""
        for namespace_id, table in self._routes.items():
            versions = frozenset((*table.members, ""))
            yield namespace_id, [RouteChange(queue, versions) for queue in table.by_queue]

    def find(self, namespace_id: str, name: str) -> Deployment | None:
        """A deployment, or None."""
        found = self._kept.get(namespace_id, {}).get(name)
        return found[1] if found is not None else None

    def get(self, namespace_id: str, name: str) -> Deployment:
        """A deployment.

        Raises:
            NotFoundError: there is no such one.
        """
        found = self.find(namespace_id, name)
        if found is None:
            raise _no_deployment(name)
        return found

    def all(self, namespace_id: str) -> list[tuple[str, Deployment]]:
        """Every deployment of a namespace, by name."""
        kept = self._kept.get(namespace_id, {})
        return [(name, kept[name][1]) for name in sorted(kept)]

    async def register(self, namespace_id: str, version: str, queue: str, kind: TaskKind) -> None:
        """Takes note of the task queue that a version's worker polls; known ones cost a look-up.

        Raises:
            ResourceExhaustedError: too many deployments, versions or queues.
            UnavailableError: the store cannot write now.
        """
        if self.routes(namespace_id).has(version, queue, kind):
            return
        name, build_id = split_version(version)
        now_ns = self._runtime.now_ns()
        await self.change(
            namespace_id,
            name,
            lambda state: changes.registered(name, state, build_id, (queue, int(kind)), now_ns),
            create=Deployment(
                created_ns=now_ns,
                create_request_id=changes.CREATED_BY_POLL,
                token=changes.token_at(now_ns, 0),
            ),
        )

    async def change(
        self, namespace_id: str, name: str, change: Change, create: Deployment | None = None
    ) -> tuple[Deployment, Deployment]:
        """Changes a deployment. Where one more version is wanted than there may be, the oldest goes that nothing uses.

        Args:
            namespace_id, name: which one.
            change: from its state to the next; what it raises is raised, and nothing has changed.
            create: what it starts from if it is not there yet.

        Returns:
            its state before and after.

        Raises:
            NotFoundError: it is not there, and is not to be created.
            NamespaceNotFoundError: the namespace was deleted meanwhile.
            ResourceExhaustedError: the namespace has too many.
            UnavailableError: the store cannot write now.
        """
        try:
            return await self._finished(self._change(namespace_id, name, change, create))
        except TooManyVersionsError:
            if not await self._makes_room(namespace_id, name):
                raise
        return await self._finished(self._change(namespace_id, name, change, create))

    async def _makes_room(self, namespace_id: str, name: str) -> bool:
        """Removes the oldest version of a deployment that nothing uses. Returns whether there was one."""
        build_id = await self.find_removable(namespace_id, name)
        if build_id is None:
            return False

        def without(state: Deployment) -> Deployment:
            return changes.without_version(name, state, build_id, identity=None)

        with suppress(FailedPreconditionError):  # it is wanted again meanwhile
            await self._finished(self._change(namespace_id, name, without, None))
            return True
        return False

    async def _change(
        self, namespace_id: str, name: str, change: Change, create: Deployment | None
    ) -> tuple[Deployment, Deployment]:
        async with self._lock:
            await self._without_doubt()
            found = self._kept.get(namespace_id, {}).get(name)
            if found is None and create is None:
                raise _no_deployment(name)
            if found is None and len(self._kept.get(namespace_id, {})) >= MAX_DEPLOYMENTS:
                raise changes.limit_reached(f"reached maximum deployments in namespace ({MAX_DEPLOYMENTS})")
            version, before = found if found is not None else (0, create or Deployment())
            after = change(before)
            if after is before and found is not None:
                return before, after
            self._namespaces.check_exists(namespace_id, namespace_id)
            stored = StoredDeployment(namespace_id, name, version + 1, encode(after))
            await self._written(self._store.put_deployment(stored))
            self._kept.setdefault(namespace_id, {})[name] = (version + 1, after)
            self._reroute(namespace_id)
            return before, after

    async def delete(self, namespace_id: str, name: str, check: Callable[[Deployment], None]) -> None:
        """Removes a deployment; nothing happens if there is none.

        Raises:
            UnavailableError: the store cannot write now.
        """
        await self._finished(self._delete(namespace_id, name, check))

    async def _delete(self, namespace_id: str, name: str, check: Callable[[Deployment], None]) -> None:
        async with self._lock:
            await self._without_doubt()
            found = self._kept.get(namespace_id, {}).get(name)
            if found is None:
                return
            check(found[1])
            await self._written(self._store.delete_deployment(namespace_id, name))
            del self._kept[namespace_id][name]
            self._reroute(namespace_id)

    async def delete_all(self, namespace_id: str) -> None:
        """Removes every deployment of a namespace that is being removed, and what is known of it.

        Raises:
            UnavailableError: the store cannot now.
        """
        async with self._lock:
            await self._without_doubt()
            for name, _ in self.all(namespace_id):
                await self._written(self._store.delete_deployment(namespace_id, name))
            self._kept.pop(namespace_id, None)
            self._routes.pop(namespace_id, None)

    def _made(self, namespace_id: str) -> Routes:
        kept = self._kept.get(namespace_id, {})
        return routes((name, state) for name, (_, state) in kept.items())

    def _reroute(self, namespace_id: str) -> None:
        before = self.routes(namespace_id)
        self._routes[namespace_id] = self._made(namespace_id)
        self._tell(namespace_id, before)

    def _tell(self, namespace_id: str, before: Routes) -> None:
        """Has tasks sent on whose routes are not those of before."""
        changed = _differences(before, self.routes(namespace_id))
        if changed:
            self.on_routes(namespace_id, changed)


def _differences(before: Routes, after: Routes) -> list[RouteChange]:
    changed: list[RouteChange] = []
    moved: dict[QueueName, set[str]] = {}
    for version in {**before.members, **after.members}:
        for queue in before.members.get(version, _NO_QUEUES) ^ after.members.get(version, _NO_QUEUES):
            moved.setdefault(queue, set()).add(version)
    for queue in {**before.by_queue, **after.by_queue}:
        old = before.route(*queue)
        if old != after.route(*queue) or queue in moved:
            members = moved.get(queue, ())
            changed.append(RouteChange(queue, frozenset(("", old.current, old.ramping, *members))))
    return changed


def _no_deployment(name: str) -> NotFoundError:
    return NotFoundError(
        f"no Worker Deployment found with name '{name}'; does your Worker Deployment have pollers?"
    )


async def _none(namespace_id: str, name: str) -> str | None:
    return None


def _nothing(namespace_id: str, changed: Sequence[RouteChange]) -> None:
    pass
