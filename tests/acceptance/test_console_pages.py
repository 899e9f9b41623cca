"""The console's pages about NMIs, problems, dead files, quarantine, keys: in a real browser.

One service, with keys, and one browser, signed in as admin, for all.
Next: test_console.py for files and the overview; docs/console.md.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

import nemflow
from borrowed import from_file
from nemflow.store import open_store

process = from_file(Path(__file__).with_name("service_process.py"))
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("nicegui", reason="the extra console is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)
ARGS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"]
AXE = Path(
    os.environ.get("NEMFLOW_TEST_AXE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "nemflow-tests/axe-core-4.10.3/package/axe.min.js"
)
LATER = datetime(2025, 2, 1, 2, tzinfo=timezone(timedelta(hours=10)))
NMI = "4102000001"  # of a range in New South Wales
APRIL, OCTOBER = date(2024, 4, 5), date(2024, 10, 5)
EVERY_PAGE = (
    "/nmis", f"/nmis/{NMI}?day=2024-10-06", f"/nmis/{NMI}?layer=quality",
    f"/nmis/{NMI}?view=table", "/nmis/3100000003", "/problems?state=all", "/dead",
    "/quarantine", "/quarantine?rule=I004", "/changes?consumer=billing", "/audit",
    "/keys", "/settings",
)  # fmt: skip


class Console:
    """A running service, the secrets of its keys, and a page of somebody who is signed in."""

    def __init__(self, service, browser, admin: str, viewer: str) -> None:
        self.service, self.browser = service, browser
        self.admin, self.viewer = admin, viewer
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})

    def asked(self, path: str, **params: object) -> dict:
        """What the API says, with the admin's key."""
        with self.client() as client:
            return client.get(path, params=params).raise_for_status().json()

    def client(self, secret: str | None = None) -> httpx.Client:
        """To ask the API with a key; the admin's unless another is given."""
        return httpx.Client(
            base_url=self.service.url,
            timeout=60,
            headers={"Authorization": f"Bearer {secret or self.admin}"},
        )

    def at(self, path: str) -> str:
        """The address of a page of the console."""
        return f"{self.service.url}/console{path}"

    def sign_in(self, context, secret: str) -> None:
        """From here on the context's pages are the key's."""
        page = context.new_page()
        page.goto(self.at("/settings"))
        page.fill("#key", secret)
        page.click("button[type=submit]")
        page.wait_for_selector("h1#content")
        page.close()


def deliveries() -> dict[str, bytes]:
    """Two spans around changes of clocks, a correction of one day, register reads, and faults."""
    one = {"nmis": [NMI], "streams": ("E1", "B1"), "seed": 4}
    fix = nemflow.generate(
        nmis=[NMI], days=1, start=date(2024, 10, 6), streams=("E1",), seed=77,
        update_at=LATER, file_at=LATER,
    )  # fmt: skip
    return {
        "april.csv": nemflow.generate(days=4, start=APRIL, **one),
        "october.csv": nemflow.generate(days=3, start=OCTOBER, **one),
        "fix.csv": fix,
        "reads.csv": nemflow.generate(nmis=["3100000003"], kind="NEM13", days=91),
        "broken.csv": nemflow.generate(nmis=2, days=3, seed=3, break_it=["I004"]),
        "rubbish.txt": b"hello\n",
        "dead1.txt": b"first\n",
        "dead2.txt": b"second\n",
    }


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    """Everything loaded; billing took October before its correction; two files are dead."""
    folder = tmp_path_factory.mktemp("pages")
    with open_store(f"sqlite:///{folder}/nemflow.db") as store:
        who = (("boss", "admin"), ("viewer", "read"))
        secrets = [store.make_key(name, [scope])[1] for name, scope in who]
    with (
        process.Service(folder, "--console") as service,
        playwright_api.sync_playwright() as api,
    ):
        browser = api.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        made = Console(service, browser, *secrets)
        with made.client() as client:
            for name, content in deliveries().items():
                put = client.put(f"/v1/deliveries/{name}", content=content, params={"wait": 30})
                assert put.status_code < 300, put.text
                if name == "october.csv":
                    made.asked(f"/v1/nmis/{NMI}/readings", consumer="billing")
        with closing(sqlite3.connect(folder / "nemflow.db", timeout=30)) as store, store:
            store.execute(
                "UPDATE delivery SET state = 'dead', error = 'The broker was away.' "
                "WHERE name LIKE 'dead%'"
            )
        made.sign_in(made.context, made.admin)
        yield made
        browser.close()


@pytest.fixture
def page(console):
    """A page that complains about errors in its scripts, and of anything fetched from elsewhere."""
    opened = console.context.new_page()
    opened.set_default_timeout(15_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    host = console.service.url.partition("//")[2]
    opened.on(
        "request",
        lambda asked: wrong.append(f"fetched {asked.url}") if host not in asked.url
        and not asked.url.startswith(("data:", "blob:")) else None,
    )  # fmt: skip
    yield opened
    opened.close()
    assert wrong == []


def expect(found):
    """What is to be seen, sooner or later."""
    return playwright_api.expect(found)


def first_number(text: str) -> Decimal:
    """``1,234.5 kWh`` -> 1234.5."""
    return Decimal(re.search(r"-?[\d,]+(?:\.\d+)?", text)[0].replace(",", ""))


def test_an_nmi_is_found_and_its_picture_shows_the_right_total_for_a_day(page, console) -> None:
    """From the search to the cell of a day: the total of the API, and the streams in words."""
    page.goto(console.at("/nmis"))
    page.fill("#search", f"{NMI}0")  # with its check digit
    page.keyboard.press("Enter")
    page.get_by_role("link", name=NMI).click()
    expect(page.locator("#streams")).to_contain_text("solar or other generation fed into the grid")
    told = console.asked(
        f"/v1/nmis/{NMI}/readings", resolution="day", suffix="E1", **{"from": "2024-04-06"}
    )["readings"]
    day = next(row for row in told if row["interval_start"].startswith("2024-04-06"))
    cell = page.locator("[data-day='2024-04-06']")
    assert f"{day['value']:g} kWh" in cell.get_attribute("aria-label")
    gap = page.locator("[data-day='2024-05-01']").get_attribute("aria-label")
    assert "48 of 48 intervals missing" in gap
    expect(page.locator("#year")).to_contain_text("2024-04-09 to 2024-10-04")
    year = page.locator("#year-sum").inner_text()
    every = console.asked(f"/v1/nmis/{NMI}/readings", resolution="day", suffix="E1")["readings"]
    total = sum(Decimal(str(row["value"])) for row in every if row["value"] is not None)
    assert first_number(year) == total
    cell.click()
    page.wait_for_url(re.compile("day=2024-04-06"))
    assert first_number(page.locator("#day-sum").inner_text()) == Decimal(str(day["value"]))
    assert page.locator("#day rect.bar").count() == 48


def test_arrow_keys_move_through_the_days(page, console) -> None:
    """One stop of the Tab key; right is a day, down a week; Enter opens the day."""
    page.goto(console.at(f"/nmis/{NMI}?day=2024-10-05"))
    assert page.locator("[data-day][tabindex='0']").count() == 1
    page.locator("[data-day='2024-10-05']").focus()
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.dataset.day") == "2024-10-04"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("day=2024-10-04"))
    expect(page.locator("#day")).to_contain_text("It is a gap")


@pytest.mark.parametrize(("day", "hours"), [("2024-04-07", 25), ("2024-10-06", 23)])
def test_a_day_on_which_clocks_change_has_its_hours_in_local_time(
    page, console, day: str, hours: int
) -> None:
    """In local time 23 or 25 hours, in market time 24, without adding or losing energy."""
    address = f"/nmis/{NMI}?stream=B1&day={day}&time="
    page.goto(console.at(f"{address}Australia/Sydney"))
    expect(page.locator("#day")).to_contain_text(f"{hours} hours")
    assert page.locator("#day rect.bar").count() == hours * 2
    assert f"{hours} hours" in page.locator(f"[data-day='{day}']").get_attribute("aria-label")
    page.locator("#day summary").click()
    clock = page.locator("#day tbody tr").nth(4).locator("td").first.inner_text()
    assert clock.startswith("02:00" if hours == 25 else "03:00")
    page.goto(console.at(f"{address}market"))
    assert page.locator("#day rect.bar").count() == 48
    expect(page.locator("#day")).not_to_contain_text("clocks")


def test_versions_of_a_day_stand_side_by_side_and_differ_visibly(page, console) -> None:
    """Current and superseded, with file, total and every interval that differs."""
    page.goto(console.at(f"/nmis/{NMI}?day=2024-10-06"))
    beside = page.locator("#versions")
    expect(beside).to_contain_text("current")
    expect(beside).to_contain_text("superseded")
    expect(beside).to_contain_text("october.csv")
    told = console.asked(f"/v1/nmis/{NMI}/versions", day="2024-10-06", suffix="E1")["versions"]
    new, old = (row["values"] for row in told)
    differ = sum(a != b for a, b in zip(new, old, strict=True))
    assert differ
    marked = beside.locator("mark")
    assert marked.count() == differ
    assert marked.first.inner_text().startswith("≠")
    page.goto(console.at(f"/nmis/{NMI}?day=2024-10-05"))
    expect(page.locator("#versions")).to_contain_text("There is one version only")


def test_readings_are_fetched_as_csv_and_parquet(page, console, tmp_path) -> None:
    """The files of the links, with the rows of the API."""
    import polars as pl

    page.goto(console.at(f"/nmis/{NMI}?day=2024-10-05"))
    for words, read, rows in (("Day totals, CSV", pl.read_csv, 186), ("Intervals, Parquet",
                              pl.read_parquet, 336)):  # fmt: skip
        with page.expect_download() as got:
            page.get_by_role("link", name=words).click()
        got.value.save_as(tmp_path / "got")
        assert read(tmp_path / "got").height == rows


def test_a_problem_is_closed_by_hand_with_a_note(page, console) -> None:
    """The note is asked for; then it is among the closed, and in the audit."""
    page.goto(console.at("/problems"))
    mine = page.locator("section", has_text="Not an MDFF file").first
    expect(mine).to_contain_text("its sender must act")
    mine.get_by_role("button", name="Close").click()
    page.locator("#ask textarea, #ask input").fill("the sender was told")
    page.locator("#ask [data-yes]").click()
    expect(page.locator("section", has_text="Not an MDFF file")).to_have_count(0)
    page.goto(console.at("/problems?state=all"))
    closed = page.locator("section", has_text="the sender was told").first
    expect(closed).to_contain_text("boss")
    page.goto(console.at("/audit?act=problem+closed"))
    expect(page.locator("tbody tr").first).to_contain_text("the sender was told")


def test_dead_files_are_grouped_by_reason_and_tried_again_together(page, console) -> None:
    """Two with one reason: listed before, then both are worked on again."""
    page.goto(console.at("/dead"))
    why = page.locator("section", has_text="Why: 1 reason").first
    expect(why).to_contain_text("broker was away")
    page.get_by_role("button", name="Retry all 2").click()
    expect(page.locator("#ask")).to_contain_text("dead1.txt")
    page.locator("#ask [data-yes]").click()
    expect(page.get_by_text("No file is dead.")).to_be_visible()
    rows = console.asked("/v1/deliveries", limit=20)["deliveries"]
    numbers = [row["delivery"] for row in rows if row["name"].startswith("dead")]
    assert len(numbers) == 2
    assert {row["state"] for row in rows if row["name"].startswith("dead")}.isdisjoint({"dead"})


def test_the_quarantine_is_narrowed_down_by_rule_and_tried_before_it_is_replayed(
    page, console
) -> None:
    """By rule, then a mended record: tried, nothing written; replayed, gone and stored."""
    page.goto(console.at("/quarantine"))
    page.locator("#by-rule--").or_(page.locator("section", has_text="By rule").first).get_by_role(
        "link", name="I004"
    ).click()
    expect(
        page.get_by_role("heading", name="I004: Value missing or not a plain number")
    ).to_be_visible()
    record = console.asked("/v1/quarantine", rule="I004")["quarantine"][0]
    box = page.locator(f"[data-record='{record['quarantine']}']")
    wrong = next(f for f in record["raw"].split(",")[2:] if not re.fullmatch(r"[\d.]+", f))
    area = box.locator("textarea")
    area.fill(record["raw"].replace(f",{wrong},", ",0.5,", 1))
    box.locator("[data-how=try]").click()
    expect(box.locator("output")).to_contain_text("nothing written")
    assert console.asked("/v1/quarantine", rule="I004")["quarantine"]
    box.locator("[data-how=do]").click()
    expect(page.get_by_text("No record is like that.")).to_be_visible()
    assert not console.asked("/v1/quarantine", rule="I004")["quarantine"]


def test_what_changed_for_a_consumer_leads_to_the_versions_of_the_day(page, console) -> None:
    """Billing took the day before its correction."""
    page.goto(console.at("/changes"))
    page.get_by_role("link", name="billing").first.click()
    row = page.locator("#changed tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("revised")
    row.get_by_role("link", name="2024-10-06").click()
    expect(page.locator("#versions")).to_contain_text("superseded")


def test_a_key_is_made_shown_once_and_revoked(page, console) -> None:
    """Its secret works, is gone after a reload, and is refused once the key is revoked."""
    page.goto(console.at("/keys"))
    page.fill("#key-name", "nightly")
    page.get_by_role("button", name="Make it").click()
    secret = page.locator("#secret").inner_text()
    with console.client(secret) as client:
        assert client.get("/v1/backlog").status_code == 200
    page.reload()
    row = page.locator("tbody tr", has_text="nightly")
    expect(row).to_contain_text("live")
    assert secret not in page.content()
    row.get_by_role("button", name="Revoke").click()
    page.locator("#ask [data-yes]").click()
    expect(row).to_contain_text("revoked")
    with open_store(f"sqlite:///{console.service.folder}/nemflow.db") as store:
        assert store.check_key(secret) is None


def test_settings_are_shown_with_origin_and_without_secrets(page, console) -> None:
    """As ``nemflow config show``: the value, where it comes from, what it means."""
    page.goto(console.at("/settings?q=features.console"))
    row = page.locator("tbody tr", has_text="features.console").first
    expect(row).to_contain_text("true")
    expect(row).to_contain_text("command line")


def test_a_viewer_may_look_at_every_page_and_do_nothing(console) -> None:
    """No button that acts, no keys; what a page could send is refused by the service too."""
    context = console.browser.new_context()
    console.sign_in(context, console.viewer)
    page = context.new_page()
    for path in ("/problems?state=all", "/dead", "/quarantine", f"/nmis/{NMI}", "/keys"):
        page.goto(console.at(path))
        page.wait_for_selector("h1#content")
        acts = page.locator("[data-act], [data-many], [data-how], [data-rotate], [data-make-key]")
        assert acts.count() == 0, path
    expect(page.locator("main, body").first).to_contain_text("may not see the keys")
    assert "boss" not in page.content()
    for path, body in (
        ("/v1/keys", '{"name": "mine"}'),
        ("/v1/problems/1/close", '{"note": "gone"}'),
        ("/v1/deliveries/retry", '{"state": ["dead"]}'),
        ("/v1/replay", '{"rule": "I004"}'),
    ):
        status = page.evaluate(
            "([path, body]) => fetch(path, {method: 'POST', body, headers: "
            "{'Content-Type': 'application/json'}}).then(r => r.status)",
            [path, body],
        )
        assert status == 403, path
    context.close()


def test_every_page_can_be_used_by_everybody(console) -> None:
    """axe-core finds nothing serious or critical, and no page is wider than the screen."""
    page = console.context.new_page()
    axe = AXE.read_text(encoding="utf-8") if AXE.is_file() else ""
    seen = {}
    for number, path in enumerate(EVERY_PAGE):
        page.emulate_media(color_scheme="dark" if number % 2 else "light")
        page.goto(console.at(path))
        page.wait_for_selector("h1#content")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, f"{path} is {over} px too wide at {width} px"
        if not axe:
            continue
        page.evaluate(axe)
        for each in page.evaluate(
            "axe.run({ resultTypes: ['violations'], preload: false }).then(r => r.violations)"
        ):
            if each["impact"] in ("serious", "critical"):
                seen[f"{path} {each['id']}"] = [node["html"] for node in each["nodes"]][:3]
    page.close()
    assert seen == {}
    if not axe:
        pytest.skip(f"axe-core is not there: .ci/axe puts it into {AXE.parent.parent.name}")
