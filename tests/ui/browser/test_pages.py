"""Every page, in a real browser: it shows what it should, nothing is complained about, everybody can use it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Route, expect

from tests.ui.application import Nap
from tests.ui.browser.conftest import Visitor
from tests.ui.stage import Stage

pytestmark = pytest.mark.serial

PAGES = {
    "workflows": ("/workflows", "order-waiting"),
    "schedules": ("/schedules", "every 1 h"),
    "schedule": ("/schedules/hourly", "Starts"),
    "batches": ("/batches", "Batches"),
    "task-queues": ("/task-queues", "orders"),
    "task-queue": ("/task-queues/orders", "stage-worker"),
    "workers": ("/workers", "Workers"),
    "deployments": ("/deployments", "No worker has a deployment version"),
    "search-attributes": ("/search-attributes", "ExecutionStatus"),
    "namespace": ("", "Retention"),
    "start-workflow": ("/start-workflow", "Task queue"),
    "start-batch": ("/start-batch", "Filter"),
    "create-schedule": ("/create-schedule", "Cron expressions"),
    "backfill": ("/schedules/hourly/backfill", "Takes the actions"),
    "add-search-attribute": ("/add-search-attribute", "Keyword"),
}
"""Name to path below the namespace, and a text on it."""
RUN_PAGES = {
    "timeline": ((), "charge"),
    "history": (("history",), "ActivityTaskScheduled"),
    "queries": (("queries",), "status"),
    "call-stack": (("call-stack",), "Stack for"),
    "relationships": (("relationships",), "order-waiting-shipping"),
    "run-workers": (("workers",), "stage-worker"),
    "reset": (("actions", "reset"), "Event"),
    "signal": (("actions", "signal"), "Signal"),
    "update": (("actions", "update"), "Update"),
}
"""Name to path below the run, and a text on it."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_it_is_about(visitor: Visitor, name: str) -> None:
    path, text = PAGES[name]
    page = visitor.open(path)
    expect(page.locator("main")).to_contain_text(text)
    visitor.check_access()
    visitor.shoot(name)


@pytest.mark.parametrize("name", RUN_PAGES)
def test_a_page_of_a_run_shows_what_it_is_about(visitor: Visitor, name: str) -> None:
    parts, text = RUN_PAGES[name]
    page = visitor.open(visitor.stage.page_of("order-waiting", *parts))
    expect(page.locator("main")).to_contain_text(text)
    visitor.check_access()
    visitor.shoot(f"run-{name}")


@pytest.mark.parametrize(
    "path", ["namespaces", "settings", "nexus-endpoints", "create-namespace", "create-nexus-endpoint"]
)
def test_a_page_of_the_server_can_be_used(visitor: Visitor, path: str) -> None:
    visitor.open(f"{visitor.stage.url}/{path}")
    visitor.check_access()
    visitor.shoot(path)


def test_the_way_from_the_list_to_an_event(visitor: Visitor) -> None:
    page = visitor.open(f"{visitor.stage.url}/")
    page.get_by_role("link", name="order-delivered", exact=True).click()
    expect(page.locator("h1")).to_have_text("order-delivered")
    expect(page.locator(".row-text", has_text="3 attempts")).to_have_count(1)
    page.locator("a:has(.bar.moment.signal)").click()
    expect(page.locator(".event.wanted")).to_contain_text("delivered")


def test_attempts_are_drawn_apart_and_say_what_failed(visitor: Visitor) -> None:
    page = visitor.open(visitor.stage.page_of("stuck"))
    # A page that follows its run moves a bar of a few pixels from under the pointer on its way.
    page.locator("#live").click()
    assert page.locator(".bar.attempt.failed").count() >= 2
    page.locator(".bar.attempt.failed:not(.estimated)").first.hover(force=True)
    expect(page.locator(".tip")).to_contain_text("WarehouseDown: aisle 9")
    expect(page.locator(".waiting")).to_contain_text("activity never_works")
    expect(page.locator("#pending")).to_contain_text("the warehouse does not answer")
    visitor.shoot("stuck")


def test_an_answer_that_was_on_its_way_does_not_move_a_bar_that_is_looked_at(visitor: Visitor) -> None:
    """The answer was asked for before the pointer came; what it brings is for the next time."""
    held: list[Route] = []
    page = visitor.open(visitor.stage.page_of("stuck"))
    page.evaluate("document.querySelector('#timeline svg').dataset.first = 'yes'")
    page.route(lambda url: "/workflows/stuck/" in url, lambda route: held.append(route))
    page.wait_for_event("request", lambda request: "/workflows/stuck/" in request.url)
    page.locator(".bar.attempt.failed:not(.estimated)").first.hover(force=True)
    expect(page.locator(".tip")).to_have_count(1)
    with page.expect_response(lambda answer: "/workflows/stuck/" in answer.url) as answered:
        held.pop().continue_()
    answered.value.finished()
    page.evaluate("new Promise(requestAnimationFrame)")
    expect(page.locator("#timeline svg[data-first]")).to_have_count(1)


def test_a_worker_says_what_it_has_room_for(visitor: Visitor) -> None:
    """From the list, which has it with its first heartbeat."""
    page = visitor.open("/workers")
    page.get_by_role("link", name="stage-worker").first.click()
    expect(page.locator("h1")).to_have_text("stage-worker")
    expect(page.locator("#worker")).to_contain_text("Workflow tasks")
    expect(page.locator("#worker")).to_contain_text("perdure-python")
    visitor.check_access()
    visitor.shoot("worker")


def test_a_run_that_nobody_serves_says_so(visitor: Visitor) -> None:
    """The queue is named; a run whose code fails says what failed."""
    stage = visitor.stage
    stage.wait(stage.begin(Nap.run, "unserved", task_queue="a-queue-nobody-polls"))
    page = visitor.open(stage.page_of("unserved"))
    expect(page.locator(".waiting")).to_contain_text("No worker polls task queue a-queue-nobody-polls")
    page.get_by_role("link", name="a-queue-nobody-polls").first.click()
    expect(page.locator("h1")).to_have_text("a-queue-nobody-polls")


def test_a_failed_run_says_why_and_offers_a_retry(visitor: Visitor) -> None:
    page = visitor.open(visitor.stage.page_of("broken"))
    expect(page.locator(".ended")).to_contain_text("aisle 7: the warehouse does not answer")
    expect(page.get_by_role("link", name="Retry from the failed step").first).to_be_visible()
    visitor.check_access()
    visitor.shoot("broken")


def test_what_came_in_and_what_came_out_are_read_first(visitor: Visitor) -> None:
    """Above the timeline and the facts, with the SDK and the counts on the tabs beside them."""
    page = visitor.open(visitor.stage.page_of("order-delivered"))
    expect(page.locator("main .pane h2")).to_have_text(["Input", "Result"])
    expect(page.locator(".pane").last).to_contain_text("lamp delivered to Side Street 2")
    panes, facts = page.locator(".outcome").bounding_box(), page.locator("dl.summary").bounding_box()
    assert panes is not None
    assert facts is not None
    assert panes["y"] + panes["height"] < facts["y"]
    expect(page.locator("dl.summary")).to_contain_text("perdure-python")
    counts = {"History": r"^History \d\d$", "Relationships": "^Relationships 1$", "Workers": "^Workers 1$"}
    for tab, text in counts.items():
        expect(page.locator(".tabs a", has_text=tab)).to_have_text(re.compile(text))
    visitor.open(visitor.stage.page_of("stuck"))
    expect(page.locator(".tabs a", has_text="Timeline")).to_have_text("Timeline 1 pending")


@pytest.mark.parametrize("has_clipboard", [True, False], ids=["clipboard", "selection"])
def test_ids_payloads_and_commands_are_copied(visitor: Visitor, has_clipboard: bool) -> None:
    """Also where the browser gives pages no clipboard, as it does without HTTPS on other hosts."""
    run_id = visitor.stage.run_ids["order-delivered"]
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.open(visitor.stage.page_of("order-delivered"))
    if not has_clipboard:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('none')); }")
    page.get_by_text("On the command line").click()
    copied = {
        "Copy workflow ID": "order-delivered",
        "Copy run ID": run_id,
        "Copy value": json.dumps({"name": "lamp", "price": 9.5}, indent=2),
        "Copy command": f"perdure workflow show --workflow-id order-delivered --run-id {run_id}",
    }
    for label, text in copied.items():
        page.get_by_role("button", name=label).first.click()
        expect(page.locator("#said")).to_contain_text(label.removeprefix("Copy "))
        assert str(page.evaluate("navigator.clipboard.readText()")).startswith(text)
    visitor.check_access()


def test_idle_time_folds_and_the_range_zooms(visitor: Visitor) -> None:
    page = visitor.open(visitor.stage.page_of("order-waiting"))
    # Whether it is folded by itself depends on how long it has been waiting.
    expect(page.get_by_role("link", name="old idle time")).to_be_visible()
    visitor.open(visitor.stage.page_of("order-waiting") + "?fold=1")
    expect(page.locator("svg.timeline")).to_be_visible()
    visitor.open(visitor.stage.page_of("order-waiting") + "?fold=0")
    expect(page.locator(".fold")).to_have_count(0)
    box = page.locator("svg.timeline").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 60, steps=4)
    page.mouse.up()
    expect(page.get_by_role("link", name="Whole run")).to_be_visible()
    assert "from=" in page.url


def test_a_wrong_filter_is_explained_where_it_was_entered(visitor: Visitor) -> None:
    page = visitor.open("/workflows")
    page.locator("#query").fill("Foo ==")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator("#query-problem")).to_be_visible()
    expect(page.locator("#query")).to_have_value("Foo ==")
    # What is wrong stays wrong: the page does not ask again by itself, and the browser does not complain again.
    expect(page.locator("#live")).to_have_count(0)
    visitor.expect_refusal(400)
    visitor.check_access()
    visitor.shoot("wrong-filter")


def test_a_filter_is_built_saved_used_and_removed(visitor: Visitor) -> None:
    page = visitor.open("/workflows")
    page.get_by_text("Build a filter").click()
    page.locator("[name=b_id]").fill("poked-*")
    page.get_by_role("button", name="Add to the filter").click()
    expect(page.locator("#query")).to_have_value("WorkflowId STARTS_WITH 'poked-'")
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_text("Views", exact=True).click()
    page.get_by_label("Save this filter as").fill("The poked ones")
    page.get_by_role("button", name="Save view").click()
    expect(page.locator(".done")).to_contain_text("The poked ones")
    visitor.open("/workflows")
    page.get_by_role("link", name="The poked ones").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_text("Views", exact=True).click()
    page.get_by_role("button", name="Remove the view").click()
    expect(page.get_by_role("link", name="The poked ones")).to_have_count(0)


def test_columns_and_colours_are_kept(visitor: Visitor) -> None:
    page = visitor.open("/workflows")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("checkbox", name="Run ID").check()
    page.get_by_role("button", name="Show these").click()
    expect(page.locator("th", has_text="Run ID")).to_be_visible()
    visitor.open(f"{visitor.stage.url}/settings")
    page.get_by_label("Colours").select_option("dark")
    page.get_by_label("Times").select_option("utc")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    visitor.open("/workflows")
    expect(page.locator("th", has_text="Run ID")).to_be_visible()
    visitor.check_access()
    visitor.shoot("workflows-dark")


def test_an_open_run_is_shown_as_it_changes(visitor: Visitor) -> None:
    stage = visitor.stage
    page = visitor.open(stage.page_of("nap"))
    before = page.locator(".bar.moment.signal").count()
    stage.wait(stage.client.get_workflow_handle("nap").signal("poke"))
    expect(page.locator(".bar.moment.signal")).to_have_count(before + 1)


def test_thousands_of_events_stay_readable(visitor: Visitor) -> None:
    stage = visitor.stage
    stage.wait(stage.client.get_workflow_handle("wide").result())
    page = visitor.open(stage.page_of("wide"))
    expect(page.locator(".row-label", has_text="quick")).to_contain_text("×1520")
    assert page.locator("svg.timeline .bar").count() < 6_000
    height = page.locator("svg.timeline").bounding_box()
    assert height is not None
    assert height["height"] < 700
    visitor.check_access()
    visitor.shoot("five-thousand-events")
    visitor.open(stage.page_of("wide", "history"))
    expect(page.locator(".event")).to_have_count(100)
    page.get_by_role("link", name="Next events").click()
    expect(page.locator(".event-id").first).to_have_text("101")
    page.locator("#query").fill("quick")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".event").first).to_contain_text("ActivityTaskScheduled")
    visitor.open(stage.page_of("wide", "history") + "?mode=compact")
    expect(page.locator("tbody tr").first).to_contain_text("workflow")
    visitor.shoot("history-compact")


def test_the_history_is_downloaded_whole(visitor: Visitor) -> None:
    page = visitor.open(visitor.stage.page_of("order-delivered", "history"))
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download JSON").click()
    events = json.loads(waiting.value.path().read_text())["events"]
    assert [int(event["eventId"]) for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"


def test_a_history_is_downloaded_and_looked_at_again(visitor: Visitor, tmp_path: Path) -> None:
    """From a file, with the controls of the timeline, an event by its bar, and a mistake said where it was made."""
    page = visitor.open(visitor.stage.page_of("order-delivered", "history"))
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download JSON").click()
    waiting.value.save_as(tmp_path / "saved.json")
    visitor.open("/workflows")
    page.get_by_role("link", name="Open a history file").click()
    page.get_by_role("button", name="Look at it").click()
    expect(page.locator("#import-error")).to_contain_text("Choose a file")
    visitor.expect_refusal(400)
    visitor.check_access()
    visitor.shoot("import")
    page.locator("#file").set_input_files(tmp_path / "saved.json")
    page.get_by_role("button", name="Look at it").click()
    expect(page.locator(".pane").last).to_contain_text("lamp delivered to Side Street 2")
    expect(page.locator(".row-text", has_text="3 attempts")).to_have_count(1)
    expect(page.locator(".event")).to_have_count(
        len(json.loads((tmp_path / "saved.json").read_text())["events"])
    )
    visitor.check_access()
    visitor.shoot("imported")
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Whole run").click()
    expect(page.get_by_role("button", name="Whole run")).to_have_count(0)
    page.locator("a:has(.bar.moment.signal)").click()
    expect(page.locator(".event.wanted")).to_contain_text("delivered")
    page.locator("svg.timeline").scroll_into_view_if_needed()
    box = page.locator("svg.timeline").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 60, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="Whole run")).to_be_visible()


def test_a_history_is_looked_at_without_script(reader: Visitor) -> None:
    """Its text, pasted; every control sends it again."""
    stage = reader.stage
    history = stage.wait(stage.client.get_workflow_handle("broken").fetch_history())
    page = reader.open("/import-history")
    page.locator("#text").fill(history.to_json())
    page.get_by_role("button", name="Look at it").click()
    expect(page.locator(".pane.bad")).to_contain_text("aisle 7: the warehouse does not answer")
    page.get_by_role("button", name="Fold idle time").click()
    page.get_by_label("Event", exact=True).fill("5")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#event-5.wanted")).to_contain_text("ActivityTaskScheduled")


def test_a_name_with_everything_in_it_has_a_page(visitor: Visitor) -> None:
    page = visitor.open("/workflows?" + urlencode({"query": "WorkflowId STARTS_WITH 'with/'"}))
    page.get_by_role("link", name="with/slash and spaces.json").click()
    expect(page.locator("h1")).to_have_text("with/slash and spaces.json")
    page.get_by_role("link", name="JSON", exact=True).click()
    assert json.loads(page.locator("body").inner_text())["workflow"]["status"] == "Running"


def test_what_is_not_there_is_said_in_words(visitor: Visitor) -> None:
    page = visitor.open("/workflows/nothing-of-this-name")
    expect(page.locator(".problem")).to_contain_text("not found")
    visitor.expect_refusal(404)
    visitor.check_access()


def test_the_keys_lead_through_the_list(visitor: Visitor) -> None:
    page = visitor.open("/workflows")
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    page.locator("#query").blur()
    page.keyboard.press("j")
    page.keyboard.press("j")
    name = page.locator("tr.on .id").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(name)
    page.wait_for_load_state()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


@pytest.mark.parametrize("name", ["order-delivered", "stuck"])
def test_a_phone_shows_a_run_without_scrolling_sideways(phone: Visitor, name: str) -> None:
    page = phone.open(phone.stage.page_of(name))
    phone.until("document.querySelector('svg.timeline').clientWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.check_access()
    phone.shoot(f"phone-{name}")


@pytest.mark.parametrize("path", ["/workflows", "/schedules/hourly", "/start-workflow"])
def test_a_phone_shows_a_page_without_scrolling_sideways(phone: Visitor, path: str) -> None:
    page = phone.open(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.shoot("phone" + path.replace("/", "-"))


def test_everything_can_be_read_and_done_without_script(reader: Visitor) -> None:
    page = reader.open("/workflows")
    expect(page.locator("tbody tr td .status").first).to_be_visible()
    page.get_by_role("link", name="poked-3").click()
    expect(page.locator("svg.timeline")).to_be_visible()
    page.locator("summary", has_text="Actions").click()
    page.get_by_role("link", name="Send a signal").click()
    page.get_by_label("Signal").fill("poke")
    page.get_by_role("button", name="Send signal").click()
    expect(page.locator(".done")).to_contain_text("was sent")
    reader.shoot("without-script")


def test_a_page_allows_no_script_but_its_own(visitor: Visitor) -> None:
    """The policy of the pages works: this is the test's own proof that a violation is seen."""
    page = visitor.open("/workflows")
    # A picture that is there: one that is missing makes a complaint of its own, before or after this test looked.
    icon = page.locator("link[rel=icon]").get_attribute("href")
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(
            """async (icon) => {
                const image = document.createElement("img");
                const loaded = new Promise((resolve) => image.addEventListener("load", resolve));
                image.setAttribute("onload", "window.broken = 1");
                image.src = icon;
                document.body.append(image);
                await loaded;
            }""",
            icon,
        )
    assert page.evaluate("window.broken") is None
    assert any("Content Security Policy" in text for text in visitor.complaints), visitor.complaints
    visitor.complaints.clear()


def test_the_stage_has_runs_in_every_state(stage: Stage) -> None:
    assert len(stage.run_ids) >= 11


@pytest.mark.parametrize("bar", ["Pages", "Parts of the run"])
def test_a_phone_shows_which_page_it_is_where_a_bar_is_longer_than_its_screen(
    phone: Visitor, bar: str
) -> None:
    page = phone.open(
        "/search-attributes" if bar == "Pages" else phone.stage.page_of("order-waiting", "workers")
    )
    shown = page.locator(f'nav[aria-label="{bar}"] [aria-current]').bounding_box()
    assert shown
    assert 0 <= shown["x"] <= 390 - shown["width"]
