"""The deliveries of the demo: what a retailer's inbox looks like in a week.

Why: real readings belong to nobody's repository, yet a tour needs something to look at.

Promises: the same bytes on every machine; every NMI is of the range kept for examples; one of
each kind that senders really send: daily files, a zip of zips, an aseXML message, a correction,
a broken file, a portal download without 100 and 900, a NEM13 file, a file sent twice, and a CSV
that is no meter data.

Look next: :mod:`nemflow.mdff.generate`, which makes the contents.
"""

from __future__ import annotations

import io
import zipfile
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from nemflow.mdff.generate import file_name, generate, generate_message

#: The house of the portal download: a year of half hours, with solar.
HOUSE: Final = "SASMPL0010"
#: The meter whose last day is first estimated, then corrected.
CORRECTED: Final = "SASMPL0001"
CORRECTED_DAY: Final = date(2025, 3, 31)
CORRECTION: Final = "4-correction.csv"
BROKEN: Final = "5-broken.csv"
PORTAL: Final = "6-portal-download.csv"

_FIRST: Final = date(2025, 3, 25)
_DAYS: Final = 7
_ZIP_TIME: Final = (2025, 4, 1, 4, 30, 0)


def make_deliveries(folder: Path) -> list[tuple[str, str]]:
    """Write the deliveries into ``folder``; returns (name, what it is) in order of the names."""
    made: list[tuple[str, str]] = []

    def put(name: str, content: bytes, what: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        made.append((name, what))

    daily = [_daily(_FIRST + timedelta(days=number)) for number in range(_DAYS)]
    for text in daily:
        put(f"1-daily/{file_name(text)}", text, "")
    made[-_DAYS:] = [("1-daily/", f"{_DAYS} daily files, 5-minute data; the last is estimated")]
    put("2-archive.zip", _zip_of_zips(), "a zip of zips: four weeks of six meters")
    put("3-message.xml", _message(), "an aseXML message with a month of two meters")
    put(CORRECTION, _correction(daily[-1]), "a later version of the last daily file")
    put(BROKEN, _broken(), "good days and four kinds of mistakes")
    put(PORTAL, _portal(), "a year of a solar house, without 100 and 900")
    put("7-quarterly-reads.csv", _registers(), "NEM13: quarterly reads of three meters")
    put("8-sent-again.csv", daily[2], "a daily file once more, under another name")
    put("9-other-portal.csv", _no_meter_data_file(), "a CSV that is no meter data file")
    return made


def _daily(day: date) -> bytes:
    """One day of three meters; the last day of the week is estimated."""
    last = day == _FIRST + timedelta(days=_DAYS - 1)
    return generate(nmis=3, days=1, start=day, interval=5, seed=7, estimated=1.0 if last else 0.0)


def _correction(text: bytes) -> bytes:
    """The estimates of that day replaced by actual readings."""
    return generate(corrections_of=text, seed=7)


def _zip_of_zips() -> bytes:
    """Four weekly zips, each with one file per meter, in a zip."""
    weeks = {}
    for week in range(4):
        start = date(2025, 2, 24) + timedelta(days=7 * week)
        files = {}
        for number in range(4, 10):
            text = generate(
                nmis=[f"SASMPL{number:04d}"],
                days=7,
                start=start,
                seed=number,
                substituted=0.1,
                service_orders=number == 4,
            )
            files[file_name(text)] = text
        weeks[f"week-{start.isoformat()}.zip"] = _zipped(files)
    return _zipped(weeks)


def _message() -> bytes:
    """A month of two meters, with reactive energy, in an aseXML message."""
    text = generate(
        nmis=["SASMPL0020", "SASMPL0021"],
        days=31,
        start=date(2025, 3, 1),
        interval=15,
        streams=["E1", "Q1"],
        seed=20,
        estimated=0.1,
    )
    return generate_message(text)


def _broken() -> bytes:
    """Days that are right, and some that no load should take."""
    return generate(
        nmis=["SASMPL0030"],
        days=7,
        start=_FIRST,
        seed=30,
        break_it=["I001", "I004", "I009", "Q008"],
    )


def _portal() -> bytes:
    """A year of one house as a portal gives it: no 100, no 900, lines end with LF."""
    text = generate(nmis=[HOUSE], days=365, start=date(2024, 4, 1), seed=10, substituted=0.02)
    lines = text.decode("ascii").split("\r\n")
    return "\n".join(line for line in lines if line[:3] not in ("100", "900", "")).encode("ascii")


def _registers() -> bytes:
    """A year of quarterly reads."""
    return generate(
        kind="NEM13", nmis=["SASMPL0040", "SASMPL0041", "SASMPL0042"], days=365, seed=40
    )


def _no_meter_data_file() -> bytes:
    """What another portal calls its interval data."""
    head = "NMI,METER SERIAL NUMBER,CON/GEN,DATE,ESTIMATED?,00:00 - 00:30,00:30 - 01:00"
    return f"{head}\nSASMPL0050,EX0000050,Consumption,05/03/2025,No,0.114,0.120\n".encode()


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as box:
        for name, content in files.items():
            box.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
