"""Commands for worker deployments."""

from __future__ import annotations

from tests.compat.cli_scenarios.model import Scenario, Step

_ONE = "--deployment-name {one}"
_VERSION = f"{_ONE} --build-id 1"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "worker_deployment",
        "A deployment and its version are created, described, listed, made current, taken back and deleted.",
        (
            Step("create", "worker deployment create --name {one}"),
            Step("create again", "worker deployment create --name {one}"),
            Step("described", "worker deployment describe --name {one}"),
            Step("listed", "worker deployment list", only="{one}"),
            Step("version", f"worker deployment create-version {_VERSION}"),
            Step("version described", f"worker deployment describe-version {_VERSION}"),
            Step(
                "metadata", f"worker deployment update-version-metadata {_VERSION} --metadata who='\"ada\"'"
            ),
            Step("refused", f"worker deployment set-current-version {_VERSION} --yes"),
            Step("current", f"worker deployment set-current-version {_VERSION} --yes --allow-no-pollers"),
            Step("ramping", f"worker deployment set-ramping-version {_VERSION} --percentage 10 --yes"),
            Step("current described", "worker deployment describe --name {one}"),
            Step("unversioned", f"worker deployment set-current-version {_ONE} --unversioned --yes"),
            Step("manager", f"worker deployment manager-identity set {_ONE} --self --yes"),
            Step("no manager", f"worker deployment manager-identity unset {_ONE} --yes"),
            Step("delete version", f"worker deployment delete-version {_VERSION} --skip-drainage"),
            Step("delete", "worker deployment delete --name {one}"),
            Step("deleted", "worker deployment describe --name {one}"),
        ),
    ),
    Scenario(
        "worker_deployment_nobody_there",
        "Every verb on a deployment that does not exist says so.",
        tuple(
            Step(verb, f"worker deployment {verb} {more}")
            for verb, more in (
                ("describe", "--name {nothing}"),
                ("describe-version", "--deployment-name {nothing} --build-id 1"),
                ("set-current-version", "--deployment-name {nothing} --build-id 1 --yes"),
                ("set-ramping-version", "--deployment-name {nothing} --build-id 1 --percentage 5 --yes"),
                ("update-version-metadata", "--deployment-name {nothing} --build-id 1 --metadata a=1"),
                ("delete-version", "--deployment-name {nothing} --build-id 1"),
                ("delete", "--name {nothing}"),
                ("manager-identity set", "--deployment-name {nothing} --self --yes"),
            )
        ),
    ),
)
