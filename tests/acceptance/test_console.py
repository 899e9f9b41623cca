"""The console in a real browser: what the person on call does with it, and what it must look like.

One service and one browser for all; each test makes its own files, so the order does not matter.
Next: docs/console.md.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import nemflow
from borrowed import from_file
from nemflow.store import open_store

process = from_file(Path(__file__).with_name("service_process.py"))
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("nicegui", reason="the extra console is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)
ARGS = [
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
AXE = Path(
    os.environ.get("NEMFLOW_TEST_AXE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "nemflow-tests/axe-core-4.10.3/package/axe.min.js"
)
#: Drops a file on the page, as a hand does.
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(drop);
}"""
EVERY_PAGE = ("/", "/files", "/deliveries/1", "/deliveries/2", "/deliveries/999999")


def text_of(number: int, **options: object) -> bytes:
    """A believable file of its own NMI."""
    return nemflow.generate(
        days=2, streams=("E1",), seed=number, nmis=[f"SAQ{number:07}"], **options
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A running service with the console; delivery 1 is broken, 2 is no meter data."""
    with process.Service(tmp_path_factory.mktemp("console"), "--console") as started:
        with started.client() as client:
            broken = nemflow.generate(nmis=2, days=3, seed=3, break_it=["I004"])
            client.put("/v1/deliveries/broken.csv", content=broken, params={"wait": 30})
            client.put("/v1/deliveries/rubbish.txt", content=b"hello\n", params={"wait": 30})
        yield started


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium."""
    with playwright_api.sync_playwright() as api:
        started = api.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        started.close()


@pytest.fixture
def page(browser, service):
    """A page that complains about errors in its scripts, and of anything fetched from elsewhere."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(15_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    host = service.url.partition("//")[2]
    opened.on(
        "request",
        lambda asked: wrong.append(f"fetched {asked.url}") if host not in asked.url
        and not asked.url.startswith(("data:", "blob:")) else None,
    )  # fmt: skip
    yield opened
    opened.close()
    assert wrong == []


def at(service, path: str) -> str:
    """The address of a page of the console."""
    return f"{service.url}/console{path}"


def state_of(service, number: int) -> str:
    """The state of a delivery, by the API."""
    with service.client() as client:
        return client.get(f"/v1/deliveries/{number}").json()["state"]


def test_files_chosen_or_dropped_in_the_browser_become_rows_in_the_store(
    page, service, tmp_path
) -> None:
    """Two files, each followed to its own final state, without a reload; then the readings."""
    good, bad = tmp_path / "night.csv", tmp_path / "torn.csv"
    good.write_bytes(text_of(11))
    bad.write_bytes(b"no meter data\n")
    page.goto(at(service, "/files"))
    page.set_input_files("#upload-files", [str(good)])
    page.evaluate(DROP, [bad.name, bad.read_text()])
    rows = page.locator("#uploads li")
    playwright_api.expect(rows.filter(has_text="night.csv")).to_contain_text("loaded")
    playwright_api.expect(rows.filter(has_text="torn.csv")).to_contain_text("rejected")
    listed = page.locator("tbody tr").filter(has_text="night.csv")
    playwright_api.expect(listed).to_contain_text("loaded")
    with service.client() as client:
        found = client.get("/v1/nmis/SAQ0000011/readings", params={"resolution": "day"}).json()
    assert len(found["readings"]) == 2


def test_why_a_file_failed_is_found_and_mended_in_three_clicks(page, service) -> None:
    """Overview, the file: the rule, the marked field, what to do; then a fix, tried, replayed."""
    page.goto(at(service, "/"))
    page.locator("section#recent-failures a", has_text="broken.csv").click()  # 1
    finding = page.locator("section#findings")
    playwright_api.expect(finding).to_contain_text("I004")
    playwright_api.expect(finding).to_contain_text("What to do:")
    assert finding.locator("mark").count() == 1
    account = page.locator("[data-account=days]")
    numbers = [int(n) for n in re.findall(r"\d+", account.inner_text())]
    assert numbers[0] == sum(numbers[1:])
    assert numbers[3] == 1
    record = page.locator("section#quarantine [data-record]")
    box = record.locator("textarea")
    raw = box.input_value()
    assert ",," in raw
    box.fill(raw.replace(",,", ",0.5,", 1))
    record.locator("[data-how=try]").click()  # 2
    playwright_api.expect(record.locator("output")).to_contain_text("nothing written")
    playwright_api.expect(record.locator("output")).to_contain_text("1 stored")
    assert state_of(service, 1) == "partly_loaded"
    record.locator("[data-how=do]").click()  # 3
    playwright_api.expect(account).to_contain_text("0 rejected")
    playwright_api.expect(page.locator("#state .chip")).to_have_text(re.compile(r"✓\s*loaded"))
    assert state_of(service, 1) == "loaded"


def test_many_are_retried_after_it_was_said_what_will_happen(page, service) -> None:
    """Two rejected ones are queued again, a loaded one is left, and the preview said so."""
    with service.client() as client:
        for name, content in (("bulk-a", b"x\n"), ("bulk-b", b"y\n"), ("bulk-c", text_of(12))):
            client.put(f"/v1/deliveries/{name}", content=content, params={"wait": 30})
        first = client.get("/v1/deliveries", params={"limit": 3}).json()["deliveries"]
    page.goto(at(service, "/files?q=bulk-"))
    page.locator("[data-all]").check()
    page.locator("[data-bulk=retry]").click()
    asked = page.locator("dialog#ask")
    playwright_api.expect(asked).to_contain_text("2 will be queued again")
    playwright_api.expect(asked).to_contain_text("it is loaded")
    asked.locator("[data-yes]").click()
    playwright_api.expect(page.locator("#said")).to_contain_text("2 done.")
    ids = [row["delivery"] for row in first]
    assert sorted(service.finals(ids).values()) == ["loaded", "rejected", "rejected"]
    with service.client() as client:
        ways = [client.get(f"/v1/deliveries/{n}/timeline").json()["steps"] for n in ids]
    retried = [any(step["step"] == "retry" for step in way) for way in ways]
    assert sorted(retried) == [False, True, True]


def test_the_filters_are_the_address_and_the_keys_lead_everywhere(page, service) -> None:
    """A choice changes the address, the address is the choice; g and f, slash, question mark."""
    page.goto(at(service, "/"))
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url(re.compile(r"/console/files"))
    page.wait_for_selector("tbody tr")
    page.select_option("#by-state", "rejected")
    page.wait_for_url(re.compile(r"state=rejected"))
    page.wait_for_selector("tbody tr")
    assert {each.split()[-1] for each in page.locator("tbody .chip").all_inner_texts()} == {
        "rejected"
    }
    assert "sender=" not in page.url
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.locator("h1").focus()
    page.keyboard.press("?")
    playwright_api.expect(page.locator("dialog#keys")).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_page_has_a_serious_fault_of_accessibility(browser, service, scheme, width) -> None:
    """axe-core finds nothing serious or critical, and no page is wider than the screen."""
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    seen = {}
    for path in EVERY_PAGE:
        opened.goto(at(service, path))
        opened.wait_for_selector("h1")
        over = opened.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{path} is {over} px too wide at {width} px"
        if not AXE.is_file():
            continue
        opened.evaluate(AXE.read_text(encoding="utf-8"))
        for each in opened.evaluate(
            "axe.run({ resultTypes: ['violations'], preload: false }).then(r => r.violations)"
        ):
            if each["impact"] in ("serious", "critical"):
                seen[f"{path} {each['id']}"] = [node["html"] for node in each["nodes"]][:3]
    opened.close()
    assert seen == {}
    if not AXE.is_file():
        pytest.skip(f"axe-core is not there: .ci/axe puts it into {AXE.parent.parent.name}")


def test_a_viewer_sees_and_cannot_act_and_other_origins_are_refused(browser, tmp_path) -> None:
    """Signing in with a key; without operate no button and no act; a forged session is none."""
    with open_store(f"sqlite:///{tmp_path}/nemflow.db") as store:
        viewer, secret = store.make_key("viewer", ["read"])
    with process.Service(tmp_path, "--console") as guarded:
        context = browser.new_context()
        page = context.new_page()
        page.goto(at(guarded, "/files"))
        assert "/sign-in" in page.url
        page.fill("#key", "nemflow_1_wrong")
        page.click("button[type=submit]")
        playwright_api.expect(page.locator("[role=alert]")).to_contain_text("not known")
        page.fill("#key", secret)
        page.click("button[type=submit]")
        page.wait_for_selector("h1")
        assert page.url.endswith("/console/files")
        assert page.locator("[data-bulk], #drop").count() == 0
        acted = page.evaluate(
            "fetch('/v1/replay', {method: 'POST', body: '{}'}).then(r => r.status)"
        )
        assert acted == 403
        assert page.evaluate("fetch('/v1/deliveries').then(r => r.status)") == 200
        cookie = next(each for each in context.cookies() if each["name"] == "nemflow_session")
        assert cookie["httpOnly"]
        assert secret not in cookie["value"]
        jar = {"nemflow_session": cookie["value"]}
        elsewhere = {"Origin": "http://evil.example"}
        assert httpx.get(f"{guarded.url}/v1/deliveries", cookies=jar).status_code == 200
        asked = httpx.get(f"{guarded.url}/v1/deliveries", cookies=jar, headers=elsewhere)
        assert asked.status_code == 401
        live = f"{guarded.url}/console/_nicegui_ws/socket.io/?EIO=4&transport=polling"
        assert httpx.get(live, cookies=jar, headers=elsewhere).status_code == 403
        socket = f"ws{guarded.url[4:]}/console/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        mine = {"Cookie": f"nemflow_session={cookie['value']}"}
        with connect(socket, origin=guarded.url, additional_headers=mine) as opened:
            assert opened.recv(10).startswith("0")
        for origin, headers in (("http://evil.example", mine), (None, mine), (guarded.url, {})):
            with pytest.raises(InvalidStatus):
                connect(socket, origin=origin, additional_headers=headers)
        number, until, _ = cookie["value"].split(".")
        forged = {"nemflow_session": f"{number}.{until}.{'0' * 64}"}
        assert httpx.get(at(guarded, "/files"), cookies=forged).status_code == 303
        page.click("text=Sign out")
        page.wait_for_url(re.compile("sign-in"))
        page.fill("#key", secret)
        page.click("button[type=submit]")
        page.wait_for_url(re.compile("/console/$"))
        with open_store(f"sqlite:///{tmp_path}/nemflow.db") as store:
            store.make_key("keeper", ["admin"])  # else nobody needs a key any more
            store.revoke_key(viewer.id)
        page.wait_for_url(re.compile("sign-in"))  # by itself: what is open ends with its key
        context.close()
    assert viewer.name == "viewer"
