"""`perdure operator namespace`."""

from __future__ import annotations

from typing import Any, Final

import click

from perdure.api.enums import v1 as enums
from perdure.api.namespace import v1 as namespace_api
from perdure.api.operatorservice import v1 as operator
from perdure.api.replication import v1 as replication
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import WrongUsageError
from perdure.cli.session import Session
from perdure.cli.settings import pairs
from perdure.cli.show import look

namespace = Group("namespace", "Create, change and delete namespaces.")

_STATES: Final = ("disabled", "enabled")
_NAME: Final = click.Argument(("name",), required=False)
_SETTINGS: Final[f.FlagGroup] = (
    f.text("--active-cluster", metavar="NAME", help="Cluster that takes requests."),
    f.texts("--cluster", metavar="NAME", help="Cluster that the namespace is on."),
    f.texts("--data", metavar="KEY=VALUE", help="Data kept with the namespace."),
    f.text("--description", help="Text for people."),
    f.text("--email", metavar="ADDRESS", help="Who owns it."),
    f.text("--history-uri", metavar="URI", help="Where histories are archived."),
    f.text("--visibility-uri", metavar="URI", help="Where list entries are archived."),
)
_SHOWN: Final = {
    "Name": "namespace_info.name", "Id": "namespace_info.id", "Description": "namespace_info.description",
    "OwnerEmail": "namespace_info.owner_email", "State": "namespace_info.state", "Data": "namespace_info.data",
    "Retention": "config.workflow_execution_retention_ttl",
    "HistoryArchival": "config.history_archival_state", "HistoryArchivalUri": "config.history_archival_uri",
    "VisibilityArchival": "config.visibility_archival_state",
    "VisibilityArchivalUri": "config.visibility_archival_uri",
    "ActiveCluster": "replication_config.active_cluster_name", "Clusters": "replication_config.clusters",
    "IsGlobalNamespace": "is_global_namespace", "FailoverVersion": "failover_version",
}  # fmt: skip


def _name(session: Session, flags: Flags) -> str:
    """The namespace that is meant: --namespace, or the argument that is an older way."""
    if not flags.name:
        return session.namespace
    if "namespace" in session.settings.given:
        raise WrongUsageError("the namespace is given twice; use --namespace only")
    session.out.warn("a namespace as an argument is an older form; use --namespace")
    return str(flags.name)


def _archival(state: str | None) -> Any:
    return wire.enum_value(enums.ArchivalState, state)


@namespace.add(
    "create", _NAME, _SETTINGS,
    f.switch("--global", help="Make it known to all clusters."),
    f.choice("--history-archival-state", of=_STATES, help="Archive histories.", default="disabled"),
    f.choice("--visibility-archival-state", of=_STATES, help="Archive list entries.", default="disabled"),
    f.duration("--retention", help="How long closed workflows are kept.", default="72h", show_default=True),
    example="perdure operator namespace create --namespace orders --retention 7d",
)  # fmt: skip
async def create(session: Session, flags: Flags) -> None:
    """Create a namespace."""
    name = _name(session, flags)
    await session.call(
        service.RegisterNamespaceRequest(
            namespace=name,
            description=flags.description or "",
            owner_email=flags.email or "",
            workflow_execution_retention_period=wire.duration(flags.retention),
            clusters=[replication.ClusterReplicationConfig(cluster_name=each) for each in flags.cluster],
            active_cluster_name=flags.active_cluster or "",
            data=pairs(flags.data, "--data"),
            is_global_namespace=flags.get("global"),
            history_archival_state=_archival(flags.history_archival_state),
            history_archival_uri=flags.history_uri or "",
            visibility_archival_state=_archival(flags.visibility_archival_state),
            visibility_archival_uri=flags.visibility_uri or "",
        )
    )
    session.out.note(f"The namespace {name} was created")


@namespace.add("delete", _NAME, f.YES, example="perdure operator namespace delete --namespace orders")
async def delete(session: Session, flags: Flags) -> None:
    """Delete a namespace with everything in it."""
    name = _name(session, flags)
    session.confirm(f"Delete the namespace {name} with all its workflows?", flags.yes, expected=name)
    answer = await session.call(operator.DeleteNamespaceRequest(namespace=name))
    if session.out.is_json:
        session.out.json(answer)
    session.out.note(f"The namespace {name} was deleted")


@namespace.add(
    "describe", _NAME, f.WATCH,
    f.text("--namespace-id", metavar="ID", help="Id of the namespace, instead of its name."),
    example="perdure operator namespace describe --namespace orders",
)  # fmt: skip
async def describe(session: Session, flags: Flags) -> None:
    """Show a namespace: how long it keeps workflows, where it is, what is in its data."""
    if flags.namespace_id and ("namespace" in session.settings.given or flags.name):
        raise WrongUsageError("either --namespace or --namespace-id is needed, not both")
    if flags.namespace_id:
        request = service.DescribeNamespaceRequest(id=flags.namespace_id)
    else:
        request = service.DescribeNamespaceRequest(namespace=_name(session, flags))
    answer = await session.call(request)
    if session.out.is_json:
        session.out.json(answer)
    _card(session, answer)


def _card(session: Session, described: Any) -> None:
    shown = {name: look(described, path) for name, path in _SHOWN.items()}
    session.out.card({name: value for name, value in shown.items() if value not in (0, "Unspecified")})


@namespace.add("list", f.WATCH, example="perdure operator namespace list")
async def list_namespaces(session: Session, flags: Flags) -> None:
    """List the namespaces of a server."""
    request = service.ListNamespacesRequest(page_size=100)
    with session.out.listing():
        while True:
            page = await session.call(request)
            for each in page.namespaces:
                if session.out.is_json:
                    session.out.json(each)
                _card(session, each)
                session.out.blank()
            request.next_page_token = page.next_page_token
            if not page.next_page_token:
                return


@namespace.add(
    "update", _NAME, _SETTINGS,
    f.switch("--promote-global", help="Make it known to all clusters."),
    f.choice("--history-archival-state", of=_STATES, help="Archive histories."),
    f.choice("--visibility-archival-state", of=_STATES, help="Archive list entries."),
    f.choice("--replication-state", of=("normal", "handover"), help="State of a move to another cluster."),
    f.duration("--retention", help="How long closed workflows are kept."),
    example="perdure operator namespace update --namespace orders --retention 30d",
)  # fmt: skip
async def update(session: Session, flags: Flags) -> None:
    """Change a namespace; what the flags do not say stays."""
    name = _name(session, flags)
    if flags.promote_global and flags.active_cluster:
        raise WrongUsageError("--promote-global cannot be used with --active-cluster")
    if flags.promote_global:
        request = service.UpdateNamespaceRequest(namespace=name, promote_namespace=True)
    elif flags.active_cluster:
        config = replication.NamespaceReplicationConfig(active_cluster_name=flags.active_cluster)
        request = service.UpdateNamespaceRequest(namespace=name, replication_config=config)
    else:
        request = await _changed(session, flags, name)
    answer = await session.call(request)
    if session.out.is_json:
        session.out.json(answer)
    session.out.note(f"The namespace {name} was changed")


async def _changed(session: Session, flags: Flags, name: str) -> service.UpdateNamespaceRequest:
    """A request with what the namespace is, and what the flags say on top."""
    before = await session.call(service.DescribeNamespaceRequest(namespace=name))
    retention = wire.duration(flags.retention) or before.config.workflow_execution_retention_ttl
    return service.UpdateNamespaceRequest(
        namespace=name,
        update_info=namespace_api.UpdateNamespaceInfo(
            description=flags.description or before.namespace_info.description,
            owner_email=flags.email or before.namespace_info.owner_email,
            data=pairs(flags.data, "--data"),
        ),
        config=namespace_api.NamespaceConfig(
            workflow_execution_retention_ttl=retention,
            history_archival_state=_archival(flags.history_archival_state),
            history_archival_uri=flags.history_uri or "",
            visibility_archival_state=_archival(flags.visibility_archival_state),
            visibility_archival_uri=flags.visibility_uri or "",
        ),
        replication_config=replication.NamespaceReplicationConfig(
            clusters=[replication.ClusterReplicationConfig(cluster_name=each) for each in flags.cluster],
            state=wire.enum_value(enums.ReplicationState, flags.replication_state),
        ),
    )
