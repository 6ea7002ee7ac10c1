"""Commands of operators: namespaces, search attributes, Nexus endpoints, the cluster."""

from __future__ import annotations

from tests.compat.cli_scenarios.model import Scenario, Step, there

_NEXUS = "operator nexus endpoint"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "operator_namespace",
        "A namespace is created, described, listed, changed and deleted.",
        (
            Step(
                "create",
                "operator namespace create --namespace {space} --retention 48h --description first "
                "--email ada@example.org --data team=blue",
            ),
            Step("create again", "operator namespace create --namespace {space}"),
            Step(
                "described",
                "operator namespace describe --namespace {space}",
                keep={"id": "namespaceInfo.id"},
            ),
            Step("described by id", "operator namespace describe --namespace-id {id}"),
            Step("listed", "operator namespace list", only="{space}", until=there("0")),
            Step(
                "update", "operator namespace update --namespace {space} --retention 72h --description second"
            ),
            Step("updated", "operator namespace describe --namespace {space}"),
            Step("too short", "operator namespace update --namespace {space} --retention 1m"),
            Step("bad name", "operator namespace create --namespace 'a name'"),
            Step("unknown", "operator namespace describe --namespace nowhere"),
            Step("unknown updated", "operator namespace update --namespace nowhere --description x"),
            Step("delete", "operator namespace delete --namespace {space} --yes"),
            Step(
                "deleted",
                "operator namespace describe --namespace {space}",
                until=lambda output: output is None,
            ),
            Step("unknown deleted", "operator namespace delete --namespace nowhere --yes"),
        ),
    ),
    Scenario(
        "operator_search_attribute",
        "Search attributes are added, listed and removed.",
        (
            Step(
                "create",
                "operator search-attribute create --name Flavour --type Keyword --name Age --type Int",
            ),
            Step("create again", "operator search-attribute create --name Flavour --type Keyword"),
            Step("other type", "operator search-attribute create --name Flavour --type Int"),
            Step("reserved", "operator search-attribute create --name WorkflowId --type Keyword"),
            Step("listed", "operator search-attribute list"),
            Step("remove", "operator search-attribute remove --name Flavour --name Age --yes"),
            Step("remove again", "operator search-attribute remove --name Flavour --yes"),
            Step("unknown namespace", "operator search-attribute list --namespace nowhere"),
        ),
    ),
    Scenario(
        "operator_nexus",
        "Nexus endpoints are created, found, listed, changed and deleted.",
        (
            Step(
                "create",
                f"{_NEXUS} create --name {{one}} --target-namespace default --target-task-queue q "
                "--description 'the *first*'",
            ),
            Step(
                "create again",
                f"{_NEXUS} create --name {{one}} --target-namespace default --target-task-queue q",
            ),
            Step("outside", f"{_NEXUS} create --name {{two}} --target-url http://127.0.0.1:9/nexus"),
            Step("got", f"{_NEXUS} get --name {{one}}"),
            Step("listed", f"{_NEXUS} list", only="{scenario}", in_order=False),
            Step("update", f"{_NEXUS} update --name {{one}} --target-task-queue other --unset-description"),
            Step("updated", f"{_NEXUS} get --name {{one}}"),
            Step(
                "bad name",
                f"{_NEXUS} create --name 'a name' --target-namespace default --target-task-queue q",
            ),
            Step(
                "bad namespace",
                f"{_NEXUS} create --name {{bad}} --target-namespace nowhere --target-task-queue q",
            ),
            Step("bad address", f"{_NEXUS} create --name {{bad}} --target-url ftp://x"),
            Step("delete", f"{_NEXUS} delete --name {{one}}"),
            Step("delete again", f"{_NEXUS} delete --name {{one}}"),
            Step("gone", f"{_NEXUS} get --name {{one}}"),
            Step("update gone", f"{_NEXUS} update --name {{one}} --target-task-queue other"),
        ),
    ),
    Scenario(
        "operator_cluster",
        "The cluster says what it is and how it is.",
        (
            Step("health", "operator cluster health"),
            Step("system", "operator cluster system"),
            Step("describe", "operator cluster describe"),
            Step("describe long", "operator cluster describe --detail"),
            Step("list", "operator cluster list"),
            Step("remove", "operator cluster remove --name nothing"),
        ),
    ),
)
