"""Canonical NEM12 (and NEM13) from chunks, as one text or one zip member per source.

Why: a file of any size can be written straight again.

Promises: bounded memory; a block that came in several chunks is one 100...900 block again, with
each 200 written once for the days under it.

Look next: :mod:`nemflow.mdff.writer`, which writes one piece.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, NamedTuple

from nemflow.mdff.meterdata import MeterData
from nemflow.mdff.writer import to_text

_END: Final = b"900\r\n"
_KEY: Final = ("source", "block")
_FRAMES: Final = ("headers", "frame_days", "register_reads", "service_events")
#: Every member carries this time: equal content, equal bytes.
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


class _Block(NamedTuple):
    """One 100...900 block of one source."""

    source: str
    block: int
    kind: str


def write_nem12(chunks: Iterator[MeterData], draft: Path, *, archive: bool) -> int:
    """Write all chunks; returns how many records."""
    with draft.open("wb") as out:
        if not archive:
            return sum(_lines(out, text) for _, text in _texts(chunks))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as box:
            return _members(box, _texts(chunks))


def _members(box: zipfile.ZipFile, texts: Iterator[tuple[str, bytes]]) -> int:
    """One member per source."""
    lines = 0
    taken: set[str] = set()
    current: str | None = None
    member: IO[bytes] | None = None
    for source, text in texts:
        if member is None or source != current:
            if member is not None:
                member.close()
            info = zipfile.ZipInfo(_member_name(source, taken), _ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            member, current = box.open(info, "w", force_zip64=True), source
        lines += _lines(member, text)
    if member is not None:
        member.close()
    return lines


def _lines(out: IO[bytes], text: bytes) -> int:
    out.write(text)
    return text.count(b"\n")


def _texts(chunks: Iterator[MeterData]) -> Iterator[tuple[str, bytes]]:
    """(source, text) in order; a block's 900 is held back until it is known to be complete."""
    opened: _Block | None = None
    last_200 = b""
    for data in chunks:
        for block, part in _blocks(data):
            text = to_text(part)
            if block == opened:
                text = text[text.index(b"\n") + 1 :]
                first_200 = text[: text.index(b"\n") + 1]
                if first_200 == last_200:
                    text = text[len(first_200) :]
            elif opened is not None:
                yield opened.source, _END
            last_200 = _last_200(text) or last_200
            opened = block
            yield block.source, text.removesuffix(_END)
    if opened is not None:
        yield opened.source, _END


def _last_200(text: bytes) -> bytes:
    """The last 200 record of a text, with its line end."""
    start = text.rfind(b"\n200,") + 1
    return text[start : text.index(b"\n", start) + 1] if start else b""


def _blocks(data: MeterData) -> Iterator[tuple[_Block, MeterData]]:
    """The chunk cut by source and block, in the order of the files."""
    cut = {
        name: getattr(data, name).partition_by(*_KEY, as_dict=True, maintain_order=True)
        for name in _FRAMES
    }
    keys = dict.fromkeys(key for name in _FRAMES[:3] for key in cut[name])
    places = {source: place for place, (source, _) in enumerate(reversed(keys))}
    for source, block in sorted(keys, key=lambda key: (-places[key[0]], key[1])):
        parts = {name: cut[name].get((source, block)) for name in _FRAMES}
        whole = {
            name: frame if frame is not None else getattr(data, name).clear()
            for name, frame in parts.items()
        }
        kind = "NEM13" if whole["frame_days"].is_empty() else "NEM12"
        if whole["frame_days"].is_empty() and whole["register_reads"].is_empty():
            kind = str(whole["headers"]["version_header"].first() or "NEM12")
        yield _Block(source, block, kind), replace(data, **whole)


def _member_name(source: str, taken: set[str]) -> str:
    """After the last part of the source's name, plain characters, unique, ending in .csv."""
    last = re.split(r"[/\\!:]", source)[-1]
    stem = re.sub(r"\.(csv|txt|xml|zip|gz|mdff|dat|nem1[23])$", "", last, flags=re.IGNORECASE)
    stem = re.sub(r"[^A-Za-z0-9._#-]+", "_", stem).strip("._") or "nem12"
    name, number = f"{stem}.csv", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}.csv"
    taken.add(name.lower())
    return name
