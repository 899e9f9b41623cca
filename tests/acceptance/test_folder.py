"""``nemflow serve`` with a drop folder: files dropped, everything killed, started again."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import nemflow
from borrowed import from_file

process = from_file(Path(__file__).with_name("service_process.py"))
ENV = {
    "NEMFLOW_FOLDER_PATH": "drop",
    "NEMFLOW_FOLDER_SETTLE_SECONDS": "1",
    "NEMFLOW_SWEEP_PATH": "archive",
}


def text_of(number: int, **options: object) -> bytes:
    """A believable file of its own NMI."""
    return nemflow.generate(
        days=2, streams=("E1",), seed=number, nmis=[f"SAQ{number:07}"], **options
    )


def test_what_is_dropped_is_loaded_once_however_it_is_killed(tmp_path) -> None:
    """A kill -9 amid forty files; a broken one, a zip, a slow writer, one renamed when it is whole.

    Whole files end in ``done``, the broken one in ``rejected`` with a report; the archive folder
    keeps its file.
    """
    drop, archive = tmp_path / "drop", tmp_path / "archive"
    (drop / "MDPA").mkdir(parents=True)
    archive.mkdir()
    (archive / "old.csv").write_bytes(text_of(90))
    for number in range(40):
        (drop / "MDPA" / f"{number}.csv").write_bytes(text_of(number))
    (drop / "broken.csv").write_text("nothing of meters\n")
    with zipfile.ZipFile(drop / "two.zip", "w") as out:
        out.writestr("50.csv", text_of(50))
        out.writestr("51.csv", text_of(51))
    (drop / "60.csv.part").write_bytes(text_of(60))
    with process.Service(tmp_path, env=ENV) as service:
        until = time.monotonic() + 60
        while len(list((drop / "MDPA").iterdir())) > 30:
            assert time.monotonic() < until
            time.sleep(0.01)
        service.kill()
        service.start()
        whole = text_of(70)
        with (drop / "70.csv").open("wb") as slow:
            for place in range(0, len(whole), len(whole) // 4 + 1):
                slow.write(whole[place : place + len(whole) // 4 + 1])
                slow.flush()
                time.sleep(0.5)
        (drop / "60.csv.part").rename(drop / "60.csv")
        expected = {f"SAQ{n:07}" for n in (*range(40), 50, 51, 60, 70, 90)}
        until = time.monotonic() + 90
        while True:
            done = [p for p in (drop / "done").rglob("*.csv") if p.is_file()]
            bad = list((drop / "rejected").glob("*broken.csv.report.json"))
            if len(done) == 42 and bad and list((drop / "done").glob("*two.zip")):
                break
            assert time.monotonic() < until, sorted(p.name for p in drop.rglob("*"))
            time.sleep(0.2)
        with service.client() as client:
            days = {row["nmi"][:10]: row["days"] for row in client.get("/v1/nmis").json()["nmis"]}
            asked = {"channel": "folder", "limit": 1000}
            rows = client.get("/v1/deliveries", params=asked).json()["deliveries"]
        assert days == dict.fromkeys(expected, 2)
        names = [row["name"] for row in rows if row["parent"] is None]
        assert sorted(names) == sorted(set(names))
        assert {row["sender"] for row in rows if row["name"] == "7.csv"} == {"MDPA"}
        assert (archive / "old.csv").exists()
        assert [p.name for p in drop.iterdir() if p.is_file()] == []
        told = service.run("verify", "--drained", "--json")
        assert told.returncode == 0, told.stdout
