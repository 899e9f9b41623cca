"""A day's deliveries as they do come: ten thousand small files in one zip, three of them bad."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from nemflow.mdff.generate import generate
from nemflow.pipeline import load
from nemflow.store import open_store

MEMBERS = 10_000
BAD = {100: "not meter data", 5_000: "damaged", 9_999: "another format"}


def _zip(path: Path) -> None:
    """Ten thousand members, one NMI and day each; three that cannot be loaded."""
    template = generate(nmis=["SASMPL0001"], days=1, streams=("E1",), seed=1).decode()
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(MEMBERS):
            text = template.replace("SASMPL0001", f"SASM{number:06d}")
            if number == 100:
                text = "date,kwh\r\n2025-03-01,4.2\r\n"
            if number == 9_999:
                text = text.replace("NEM12", "NEM14")
            archive.writestr(f"{number:05d}.csv", text)
    data = bytearray(held.getvalue())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo("05000.csv")
    # one byte of the compressed text, past the local header and the name
    data[info.header_offset + 30 + len(info.filename) + 40] ^= 0xFF
    path.write_bytes(data)


def test_bad_members_hold_nobody_back_and_are_named(tmp_path: Path) -> None:
    """9,997 loaded, 3 named with their reason, and every day accounted for."""
    _zip(tmp_path / "day.zip")
    with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        summary = load(store, [tmp_path / "day.zip"])
        bad = {Path(file.source).name: file for file in summary.files if file.state != "loaded"}
        assert sorted(bad) == [f"{number:05d}.csv" for number in BAD]
        assert all(file.state == "rejected" and file.error for file in bad.values())
        assert len(summary.files) == MEMBERS
        read = sum(file.days.read for file in summary.files)
        assert read == sum(
            file.days.stored + file.days.unchanged + file.days.rejected for file in summary.files
        )
        assert sum(file.days.stored for file in summary.files) == MEMBERS - len(BAD)
        assert store.nmis().height == MEMBERS - len(BAD)

        again = load(store, [tmp_path / "day.zip"])
    assert sum(file.state == "duplicate" for file in again.files) == MEMBERS - len(BAD)
