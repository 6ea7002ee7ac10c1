"""`perdure operator`: namespaces, search attributes, Nexus endpoints, clusters."""

from __future__ import annotations

from perdure.cli.command import Group
from perdure.cli.operator_cluster import cluster, search_attribute
from perdure.cli.operator_namespace import namespace
from perdure.cli.operator_nexus import nexus

operator = Group(
    "operator", "Set up and look after a server: namespaces, search attributes, Nexus endpoints."
)
for _group in (cluster, namespace, nexus, search_attribute):
    operator.add_command(_group)
