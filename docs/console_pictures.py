"""Make the pictures of the console anew: a real service, files made by seed, a real browser.

Why: a picture that nobody can make again is soon untrue.
Promises: each picture is what the page shows today; none is larger than 200 kB.
Run it with ``python docs/console_pictures.py`` (or only some, ``... nmi``); it needs chromium. The
pictures stand in ``docs/pictures/console-*.png``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from io import BytesIO
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

import nemflow

HERE = Path(__file__).parent
ARGS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"]
MOST_BYTES = 200_000
#: Every page, and its address below /console.
PAGES = {
    "overview": "/",
    "files": "/files",
    "file": "/deliveries/{broken}",
    "nmis": "/nmis",
    "nmi": "/nmis/4102000001?day=2024-10-06",
    "quarantine": "/quarantine?rule=I004",
    "problems": "/problems",
    "dead": "/dead",
    "changes": "/changes?consumer=billing",
    "audit": "/audit",
    "keys": "/keys",
    "settings": "/settings",
}
#: How each is looked at: width, height, light or dark.
LOOKS = {"light": (1120, 900, "light"), "dark": (1120, 900, "dark"), "phone": (390, 844, "light")}
#: name -> address, width, height, light or dark.
PICTURES = {
    f"{page}-{look}": (address, *LOOKS[look]) for page, address in PAGES.items() for look in LOOKS
} | {
    "nmi-dark": ("/nmis/4102000001?layer=quality&day=2024-10-06", 1120, 900, "dark"),
    "nmi-phone": ("/nmis/4102000001?day=2024-10-06&time=Australia/Sydney#year", 390, 844, "light"),
}


def fill(url: str) -> dict[str, int]:
    """Some good files, some bad ones; returns the numbers that addresses need."""
    texts = {
        f"mdp_night_{n:02}.csv": nemflow.generate(
            days=7, seed=n, nmis=[f"SAQ{n:07}"], streams=("E1", "B1")
        )
        for n in range(6)
    }
    inside = BytesIO()
    with zipfile.ZipFile(inside, "w") as archive:
        for n in range(3):
            text = nemflow.generate(days=2, seed=n + 50, nmis=[f"SAZ{n:07}"])
            archive.writestr(f"part_{n}.csv", text)
    texts["week.zip"] = inside.getvalue()
    texts["letter.txt"] = b"Dear retailer, please find attached\n"
    texts["solar.csv"] = nemflow.generate(nmis=2, days=9, seed=3, break_it=["I001", "I004", "Q008"])
    texts |= year()
    numbers = {}
    with httpx.Client(base_url=url, timeout=60) as client:
        for name, text in texts.items():
            told = client.put(f"/v1/deliveries/{name}", content=text, params={"wait": 30})
            numbers[name] = told.json()["delivery"]
            if name == "year.csv":
                client.get(
                    "/v1/nmis/4102000001/readings",
                    params={"from": "2024-10-01", "to": "2024-10-31", "consumer": "billing"},
                )
    return {"broken": numbers["solar.csv"]}


def year() -> dict[str, bytes]:
    """A year of one NMI with a gap, and a correction of three of its days."""
    from datetime import date, datetime

    one = {"nmis": ["4102000001"], "seed": 4}
    text = nemflow.generate(
        days=360, start=date(2024, 1, 5), streams=("E1", "B1", "Q1"), estimated=0.04,
        substituted=0.05, **one,
    ).decode()  # fmt: skip
    kept, gap = [], False
    for line in text.split("\r\n"):
        if line.startswith("300,"):
            gap = "20240510" <= line[4:12] <= "20240514"
        if not (gap and line.startswith(("300,", "400,", "500,"))):
            kept.append(line)
    later = datetime.fromisoformat("2025-02-01T02:00+10:00")
    fix = nemflow.generate(
        days=3, start=date(2024, 10, 5), streams=("E1",), estimated=0.4, file_at=later,
        update_at=later, **one,
    )  # fmt: skip
    return {"year.csv": "\r\n".join(kept).encode(), "year_corrected.csv": fix}


def take(url: str, numbers: dict[str, int]) -> None:
    """Every picture."""
    (HERE / "pictures").mkdir(exist_ok=True)
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        only = sys.argv[1:]  # beginnings of names; none: all
        for name, (path, width, height, scheme) in PICTURES.items():
            if only and not name.startswith(tuple(only)):
                continue
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page.goto(f"{url}/console{path.format(**numbers)}")
            page.wait_for_selector("h1")
            page.wait_for_timeout(500)
            target = HERE / "pictures" / f"console-{name}.png"
            page.screenshot(path=target)
            if target.stat().st_size > MOST_BYTES:
                raise SystemExit(f"{target.name} is larger than {MOST_BYTES:,} bytes.")
            page.close()
        browser.close()


def main() -> None:
    """Serve, fill, take, stop."""
    with tempfile.TemporaryDirectory() as where:
        log = Path(where) / "log"
        with log.open("wb") as out:
            service = subprocess.Popen(
                [sys.executable, "-m", "nemflow.cli", "serve", "--console", "--port", "0"],
                cwd=where,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            until = time.monotonic() + 60
            while not (found := re.search(r"serves (http://\S+)", log.read_text())):
                if service.poll() is not None or time.monotonic() > until:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            take(found[1], fill(found[1]))
        finally:
            service.terminate()
            service.wait(60)


if __name__ == "__main__":
    main()
