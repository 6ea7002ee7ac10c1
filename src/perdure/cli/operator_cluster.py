"""`perdure operator cluster` and `perdure operator search-attribute`."""

from __future__ import annotations

from typing import Final

from perdure.api.enums import v1 as enums
from perdure.api.operatorservice import v1 as operator
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import listings, wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import EXIT_NOT_CONNECTED, CommandError, WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import enum_label

cluster = Group("cluster", "See what a server is and how it is, and the clusters that it knows.")
search_attribute = Group("search-attribute", "Create, list and remove search attributes.")

_TYPES: Final = ("Text", "Keyword", "Int", "Double", "Bool", "Datetime", "KeywordList")


@cluster.add("health", f.WATCH, example="perdure operator cluster health")
async def health(session: Session, flags: Flags) -> None:
    """Ask whether a server serves; the exit code says so, too."""
    connected = await session.service()
    if not await connected.check_health(retry=True):
        raise CommandError("the server does not serve at the moment", EXIT_NOT_CONNECTED)
    if session.out.is_json:
        session.out.json({"status": "SERVING"})
    session.out.line("SERVING", style="green")


@cluster.add("system", example="perdure operator cluster system")
async def system(session: Session, flags: Flags) -> None:
    """Show a server's version and what it can do."""
    answer = await session.call(service.GetSystemInfoRequest())
    if session.out.is_json:
        session.out.json(answer)
    can = {field.name: value for field, value in answer.capabilities.ListFields()}
    session.out.card({"ServerVersion": answer.server_version, **can})


@cluster.add(
    "describe",
    f.switch("--detail", help="Show more of it."),
    f.WATCH,
    example="perdure operator cluster describe --detail",
)
async def describe(session: Session, flags: Flags) -> None:
    """Show a cluster's name, id and stores."""
    answer = await session.call(service.GetClusterInfoRequest())
    if session.out.is_json:
        session.out.json(answer)
    shown = {
        "ClusterName": "cluster_name",
        "PersistenceStore": "persistence_store",
        "VisibilityStore": "visibility_store",
    }
    if flags.detail:
        shown |= {
            "ClusterId": "cluster_id",
            "ServerVersion": "server_version",
            "HistoryShardCount": "history_shard_count",
        }
    session.out.fields(answer, shown)


_CLUSTERS: Final = listings.Listing(
    request=operator.ListClustersRequest,
    items="clusters",
    columns={
        "Name": "cluster_name",
        "ClusterId": "cluster_id",
        "Address": "address",
        "HistoryShardCount": "history_shard_count",
        "InitialFailoverVersion": "initial_failover_version",
        "IsConnectionEnabled": "is_connection_enabled",
        "IsReplicationEnabled": "is_replication_enabled",
    },
)


@cluster.add("list", f.LIMIT, f.WATCH, example="perdure operator cluster list")
async def list_clusters(session: Session, flags: Flags) -> None:
    """List the clusters that a server knows."""
    await listings.show(session, flags, _CLUSTERS, operator.ListClustersRequest())


@cluster.add(
    "upsert",
    f.text("--frontend-address", required=True, metavar="ADDRESS", help="host:port of the other cluster."),
    f.switch("--enable-connection", help="Connect to it."),
    f.switch("--enable-replication", help="Let it have what happens here."),
    example="perdure operator cluster upsert --frontend-address other:7233 --enable-connection",
)
async def upsert(session: Session, flags: Flags) -> None:
    """Make another cluster known, or change what is known of it."""
    await session.call(
        operator.AddOrUpdateRemoteClusterRequest(
            frontend_address=flags.frontend_address,
            enable_remote_cluster_connection=flags.enable_connection,
            enable_replication=flags.enable_replication,
        )
    )
    if session.out.is_json:
        session.out.json({"frontendAddress": flags.frontend_address})
    session.out.note(f"The cluster at {flags.frontend_address} is known")


@cluster.add(
    "remove",
    f.text("--name", required=True, metavar="NAME", help="Name of the cluster."),
    example="perdure operator cluster remove --name other",
)
async def remove(session: Session, flags: Flags) -> None:
    """Forget another cluster."""
    await session.call(operator.RemoveRemoteClusterRequest(cluster_name=flags.name))
    if session.out.is_json:
        session.out.json({"clusterName": flags.name})
    session.out.note(f"The cluster {flags.name} was forgotten")


@search_attribute.add(
    "create",
    f.texts("--name", required=True, metavar="NAME", help="Name of a search attribute."),
    f.choices("--type", of=_TYPES, required=True, help="Its type, in the order of the names."),
    example="perdure operator search-attribute create --name Customer --type Keyword",
)
async def create_attributes(session: Session, flags: Flags) -> None:
    """Create search attributes."""
    if len(flags.name) != len(flags.type):
        raise WrongUsageError(
            f"{len(flags.name)} names and {len(flags.type)} types: each name needs one type"
        )
    wanted = {
        name: wire.enum_value(enums.IndexedValueType, label)
        for name, label in zip(flags.name, flags.type, strict=True)
    }
    known = await session.call(operator.ListSearchAttributesRequest())
    for name, value in wanted.items():
        there = known.custom_attributes.get(name, value)
        if there != value:
            label = enum_label(enums.IndexedValueType.Name(there), "IndexedValueType")
            raise CommandError(f"the search attribute {name} exists with the type {label}")
    await session.call(operator.AddSearchAttributesRequest(search_attributes=wanted))
    session.out.note("The search attributes were created")


@search_attribute.add("list", f.WATCH, example="perdure operator search-attribute list")
async def list_attributes(session: Session, flags: Flags) -> None:
    """List the search attributes that can be used in filters."""
    answer = await session.call(operator.ListSearchAttributesRequest())
    if session.out.is_json:
        session.out.json(answer)
    rows = [
        {
            "Name": name,
            "Type": enum_label(enums.IndexedValueType.Name(value), "IndexedValueType"),
            "Kind": kind,
        }
        for kind, found in (("system", answer.system_attributes), ("custom", answer.custom_attributes))
        for name, value in sorted(found.items())
    ]
    session.out.table(rows, ["Name", "Type", "Kind"])


@search_attribute.add(
    "remove",
    f.texts("--name", required=True, metavar="NAME", help="Name of a search attribute."),
    f.YES,
    example="perdure operator search-attribute remove --name Customer --yes",
)
async def remove_attributes(session: Session, flags: Flags) -> None:
    """Remove search attributes; their values can no longer be found."""
    session.confirm(f"Remove the search attributes {', '.join(flags.name)}?", flags.yes)
    await session.call(operator.RemoveSearchAttributesRequest(search_attributes=flags.name))
    session.out.note("The search attributes were removed")
