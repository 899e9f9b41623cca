"""A night's files, one of them wrong: what the person on call does about it, in clicks.

The simulator sends 200 files: good, broken, corrected and repeated ones, zips and messages, and in
their midst one that was sent under the wrong rule profile and has a faulty day besides. Clicks are
counted by the page itself. Next: test_console.py, docs/console.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import nemflow
from borrowed import from_file
from nemflow.simulating import run
from nemflow.simulating.asking import Asking
from nemflow.simulating.sending import HttpDoor, Pace
from nemflow.simulating.traffic import Mix

browsing = from_file(Path(__file__).with_name("test_console.py"))
process = browsing.process
expect = browsing.playwright_api.expect
FILES = 200
NIGHT: dict[str, Any] = {
    "files": FILES // 2, "nmis": 1, "days": 1, "intervals": (30,), "corrections": 0.15,
    "broken": 0.08, "duplicates": 0.08, "zipped": 0.06, "asexml": 0.04,
}  # fmt: skip
#: Clicks of a pointer; a key that presses a button is none.
COUNTING = """addEventListener("click", (event) => {
  const before = Number(sessionStorage.clicks || 0);
  if (event.isTrusted && event.detail) sessionStorage.clicks = before + 1;
}, true)"""


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A service that has loaded them, and the number of the wrong one."""
    wrong = nemflow.generate(
        days=3, streams=("E1",), seed=77, nmis=["SAQ0000077"], break_it=["I004"]
    ).replace(b"900\r\n", b"")
    folder = tmp_path_factory.mktemp("night")
    with process.Service(folder, "--console", "--workers", "2") as service:
        with service.client() as client:
            door, asking, pace = HttpDoor(client), Asking(client), Pace(per_second=100)
            sent = [run.send(Mix(**NIGHT, seed=1), door, pace, asking)]
            put = client.put(
                "/v1/deliveries/meters-0317.csv", content=wrong, params={"profile": "b2b"}
            )
            sent.append(run.send(Mix(**NIGHT, seed=2), door, pace, asking))
            run.drain(sent[1], asking, 300)
            assert not sent[1].differences
            service.finals([put.json()["delivery"]])
        yield service, put.json()["delivery"]


def clicks(page) -> int:
    """How many since the last question."""
    return int(
        page.evaluate(
            "() => { const n = sessionStorage.clicks || 0; sessionStorage.clicks = 0; return n; }"
        )
    )


def sums(page) -> list[int]:
    """The account on a delivery's page: read, stored, unchanged, rejected; marked as adding up."""
    account = page.locator("[data-account=days]")
    expect(account).to_contain_text("adds up")
    return [int(number) for number in re.findall(r"\d+", account.inner_text())]


@pytest.fixture
def page():
    """A browser's page that counts its clicks."""
    with (
        browsing.playwright_api.sync_playwright() as api,
        api.chromium.launch(executable_path=browsing.CHROMIUM, args=browsing.ARGS) as browser,
    ):
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(15_000)
        opened.add_init_script(COUNTING)
        yield opened


def test_why_it_failed_its_profile_its_replay_and_its_counts_in_three_clicks_each(
    night, page
) -> None:
    """Among a night's files: found, told why, read under the right profile, mended, balanced."""
    service, number = night
    page.goto(browsing.at(service, "/"))

    # why did it fail
    page.locator("section#recent-failures a", has_text="All of them").click()
    page.locator("tbody a", has_text="meters-0317.csv").click()
    expect(page.locator("#state")).to_contain_text("rejected")
    expect(page.locator("section#findings")).to_contain_text("F006")
    expect(page.locator("section#findings")).to_contain_text("What to do:")
    assert sums(page) == [4, 0, 0, 4]
    assert 1 <= clicks(page) <= 3

    # another profile, for the whole file
    page.locator("[data-act]", has_text="Try again with profile portal").click()
    page.locator("dialog#ask [data-yes]").click()
    expect(page.locator("#state")).to_contain_text("partly loaded")
    assert sums(page) == [4, 3, 0, 1]
    assert 1 <= clicks(page) <= 3

    # the day that is still kept out: mended and replayed
    record = page.locator("section#quarantine [data-record]")
    text = record.locator("textarea")
    text.fill(text.input_value().replace(",,", ",0.5,", 1))
    record.locator("[data-how=do]").click()
    expect(page.locator("#state .chip")).to_have_text(re.compile(r"✓\s*loaded"))

    # and its counts
    assert sums(page) == [4, 4, 0, 0]
    assert 1 <= clicks(page) <= 3

    with service.client() as client:
        row = client.get(f"/v1/deliveries/{number}").json()
        assert (row["state"], row["profile"]) == ("loaded", "portal")
        newest = client.get("/v1/deliveries", params={"limit": 1}).json()["deliveries"][0]
    assert newest["delivery"] > FILES
    assert service.run("verify", "--drained").returncode == 0


def test_what_is_being_written_stays_when_another_record_was_replayed(night, page) -> None:
    """The list is drawn anew without the record that went in; the other's text is as typed."""
    service, _ = night
    text = nemflow.generate(
        days=6, streams=("E1",), seed=78, nmis=["SAQ0000078"], break_it=["I004", "Q001"]
    )
    with service.client() as client:
        told = client.put("/v1/deliveries/two-out.csv", content=text, params={"wait": 60}).json()
    page.goto(browsing.at(service, f"/quarantine?file={told['file']}"))
    records = page.locator("[data-record]")
    expect(records).to_have_count(2)
    other = page.locator("[data-record]", has_text="Q001").locator("textarea")
    typed = other.input_value() + "\n400,"
    other.fill(typed)
    first = page.locator("[data-record]", has_text="I004")
    box = first.locator("textarea")
    box.fill(box.input_value().replace(",,", ",0.5,", 1))
    first.locator("[data-how=do]").click()
    expect(records).to_have_count(1)
    expect(other).to_have_value(typed)
