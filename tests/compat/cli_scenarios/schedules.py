"""Commands for schedules."""

from __future__ import annotations

from tests.compat.cli_scenarios.model import Scenario, Step, there

_CREATE = "schedule create -s {id} --type Everyday --task-queue {nobody} -w {wf}"
_DESCRIBE = "schedule describe -s {id}"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "schedule_life",
        "A schedule is created, described, listed, paused, triggered, changed and deleted.",
        (
            Step(
                "create",
                f"{_CREATE} --interval 400d --notes first --paused --overlap-policy BufferOne "
                "--remaining-actions 5 --schedule-memo 'who=\"ada\"' --memo 'note=1' "
                "--schedule-search-attribute 'Shade=\"green\"' --input 7 --catchup-window 1h --pause-on-failure",
            ),
            Step("create again", f"{_CREATE} --interval 400d"),
            Step("described", _DESCRIBE),
            Step("listed", "schedule list", only="{id}", until=there("0")),
            Step("listed long", "schedule list --long", only="{id}"),
            Step("listed by query", "schedule list --query \"Shade = 'green'\"", only="{id}"),
            Step("unpause", "schedule toggle -s {id} --unpause --reason 'go on'"),
            Step("pause", "schedule toggle -s {id} --pause --reason 'a break'"),
            Step("toggled", _DESCRIBE),
            Step("trigger", "schedule trigger -s {id}"),
            Step("triggered", _DESCRIBE, until=there("info.recentActions")),
            Step(
                "its workflow", "workflow list --query \"TemporalScheduledById = '{id}'\"", until=there("0")
            ),
            Step(
                "update",
                "schedule update -s {id} --type Other --task-queue {nobody} -w {wf} --interval 500d "
                "--notes second",
            ),
            Step("updated", _DESCRIBE),
            Step("delete", "schedule delete -s {id}"),
            Step("deleted", _DESCRIBE),
        ),
    ),
    Scenario(
        "schedule_specs",
        "Calendars, cron strings and intervals are understood alike, and so are the times that match.",
        (
            Step(
                "calendar",
                "schedule create -s {calendar} --type E --task-queue {nobody} -w {wf} --paused "
                '--calendar \'{"dayOfWeek":"Fri","hour":"17","minute":"5","year":"2090"}\' '
                "--time-zone Europe/Berlin --jitter 10s",
            ),
            Step("calendar described", "schedule describe -s {calendar}", drop=("info.futureActionTimes",)),
            Step(
                "cron",
                "schedule create -s {cron} --type E --task-queue {nobody} -w {wf} --paused "
                "--cron '30 12 * * Fri' --cron '@monthly'",
            ),
            Step("cron described", "schedule describe -s {cron}", drop=("info.futureActionTimes",)),
            Step(
                "times",
                "schedule list-matching-times -s {cron} --start-time 2090-01-01T00:00:00Z "
                "--end-time 2090-02-01T00:00:00Z",
            ),
            Step(
                "interval",
                "schedule create -s {interval} --type E --task-queue {nobody} -w {wf} --paused "
                "--interval 5h/50m --interval 100d",
            ),
            Step("interval described", "schedule describe -s {interval}"),
            Step(
                "bad cron",
                "schedule create -s {bad} --type E --task-queue {nobody} -w {wf} --cron 'now and then'",
            ),
            Step(
                "bad zone",
                "schedule create -s {bad} --type E --task-queue {nobody} -w {wf} --interval 1h "
                "--time-zone Moon",
            ),
            Step(
                "bad calendar",
                "schedule create -s {bad} --type E --task-queue {nobody} -w {wf} "
                '--calendar \'{"hour":"31"}\'',
            ),
        ),
    ),
    Scenario(
        "schedule_backfill",
        "A backfill starts what would have been started.",
        (
            Step("create", f"{_CREATE} --interval 1h --paused"),
            Step(
                "backfill",
                "schedule backfill -s {id} --start-time 2020-01-01T00:30:00Z "
                "--end-time 2020-01-01T01:30:00Z --overlap-policy AllowAll",
            ),
            Step("described", _DESCRIBE, until=there("info.recentActions"), drop=("info.futureActionTimes",)),
            Step(
                "its workflow", "workflow list --query \"TemporalScheduledById = '{id}'\"", until=there("0")
            ),
        ),
    ),
    Scenario(
        "schedule_nobody_there",
        "Every verb on a schedule that does not exist says so.",
        tuple(
            Step(verb, f"schedule {verb} -s {{nothing}} {more}")
            for verb, more in (
                ("describe", ""),
                ("delete", ""),
                ("trigger", ""),
                ("toggle", "--pause --reason x"),
                ("backfill", "--start-time 2020-01-01T00:00:00Z --end-time 2020-01-02T00:00:00Z"),
                ("update", "--type E --task-queue q -w w --interval 1h"),
                ("list-matching-times", "--start-time 2020-01-01T00:00:00Z --end-time 2020-01-02T00:00:00Z"),
            )
        ),
    ),
)
