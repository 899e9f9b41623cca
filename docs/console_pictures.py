"""Make the pictures of the console anew: a real service, files made by seed, a real browser.

Why: a picture that nobody can make again is soon untrue.
Promises: each picture is what the page shows today; none is larger than 200 kB.
Run it with ``python docs/console_pictures.py``; it needs chromium. The pictures stand in
``docs/pictures/console-*.png``.
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
#: name -> address below /console, width, height, light or dark.
PICTURES = {
    "overview-light": ("/", 1120, 900, "light"),
    "overview-dark": ("/", 1120, 900, "dark"),
    "overview-phone": ("/", 390, 844, "light"),
    "files-light": ("/files", 1120, 900, "light"),
    "files-dark": ("/files", 1120, 900, "dark"),
    "files-phone": ("/files", 390, 844, "dark"),
    "file-light": ("/deliveries/{broken}", 1120, 1100, "light"),
    "file-dark": ("/deliveries/{broken}", 1120, 1100, "dark"),
    "file-phone": ("/deliveries/{broken}", 390, 844, "light"),
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
    numbers = {}
    with httpx.Client(base_url=url, timeout=60) as client:
        for name, text in texts.items():
            told = client.put(f"/v1/deliveries/{name}", content=text, params={"wait": 30})
            numbers[name] = told.json()["delivery"]
    return {"broken": numbers["solar.csv"]}


def take(url: str, numbers: dict[str, int]) -> None:
    """Every picture."""
    (HERE / "pictures").mkdir(exist_ok=True)
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=ARGS)
        for name, (path, width, height, scheme) in PICTURES.items():
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
