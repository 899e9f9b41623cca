"""What comes in is opened under limits: honest archives whole, hostile ones refused by reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import struct
import threading
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemflow.errors import ArchiveRefused, SystemFault, UsageError
from nemflow.intake import blob
from nemflow.intake.archive import Limits, Member, Refused, members

DAY = b"100,NEM12,202503060215,MDPEXMPL,RETEXMPL\r\n900\r\n"


# ── a zip writer that can lie ─────────────────────────────────────────────────────────────


@dataclass
class Lie:
    """One entry; ``local`` and ``central`` override what each header says."""

    name: bytes = b"day.csv"
    data: bytes = DAY
    method: int = 8
    local: dict = field(default_factory=dict)
    central: dict = field(default_factory=dict)
    after: bytes = b""  # between this entry's data and the next
    at: int | None = None  # point to another entry's header instead of writing one


def lying_zip(*entries: Lie, end: dict | None = None, comment: bytes = b"") -> bytes:
    """A zip built by hand, byte for byte as an attacker would."""
    out, directory = bytearray(), bytearray()
    for entry in entries:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = entry.data
        if entry.method == 8:
            packed = packer.compress(entry.data) + packer.flush()
        facts = {
            "flags": 0, "method": entry.method, "crc": zlib.crc32(entry.data),
            "packed": len(packed), "size": len(entry.data), "name": entry.name, "extra": b"",
            "attributes": 0, "offset": len(out) if entry.at is None else entry.at, "disk": 0,
        }  # fmt: skip
        one = facts | entry.local
        if entry.at is None:
            out += struct.pack(
                "<4s5H3L2H", b"PK\3\4", 20, one["flags"], one["method"], 0, 33, one["crc"],
                one["packed"], one["size"], len(one["name"]), len(one["extra"]),
            ) + one["name"] + one["extra"] + packed + entry.after  # fmt: skip
        one = facts | entry.central
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, one["flags"], one["method"], 0, 33, one["crc"],
            one["packed"], one["size"], len(one["name"]), len(one["extra"]), 0, one["disk"], 0,
            one["attributes"], one["offset"],
        ) + one["name"] + one["extra"]  # fmt: skip
    said = {"here": len(entries), "count": len(entries), "size": len(directory)}
    said |= {"offset": len(out), "disk": 0} | (end or {})
    return bytes(out + directory) + struct.pack(
        "<4s4H2LH", b"PK\5\6", said["disk"], said["disk"], said["here"], said["count"],
        said["size"], said["offset"], len(comment),
    ) + comment  # fmt: skip


def honest_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as Python's own writer makes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def opened(source, **limits) -> tuple[dict[str, bytes], dict[str, str]]:
    """Names and contents that came out, names and reasons that did not."""
    read: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    for one in members(source, name="in", limits=Limits(**limits)):
        if isinstance(one, Refused):
            assert isinstance(one.error, ArchiveRefused)
            assert one.error.rule == "F001"
            assert one.error.hint, "a refusal says what to do"
            refused[one.name] = one.error.message
            continue
        with one:
            data = one.read()
            with one.open() as handle:
                assert handle.read() == data
            assert one.size == len(data)
            assert one.sha256 == hashlib.sha256(data).hexdigest()
        read[one.name] = data
    return read, refused


# ── honest archives ───────────────────────────────────────────────────────────────────────


def test_plain_bytes_are_one_member():
    """What is no container comes out as it is, under the name it was given."""
    assert opened(DAY) == ({"in": DAY}, {})


def test_a_zip_in_a_zip_in_a_gzip_is_opened():
    """Three containers inside each other are opened; the name tells the way."""
    inner = honest_zip({"day.csv": DAY, "folder/other.csv": DAY + b"\n"})
    outer = gzip.compress(honest_zip({"inner.zip": inner, "plain.csv": b"900"}))
    read, refused = opened(outer)
    assert not refused
    assert read == {
        "in/content/inner.zip/day.csv": DAY,
        "in/content/inner.zip/folder/other.csv": DAY + b"\n",
        "in/content/plain.csv": b"900",
    }


def test_a_gzip_names_its_file_after_itself(tmp_path):
    """day.csv.gz holds day.csv; parts of a many-part gzip are one file; zero padding is fine."""
    path = tmp_path / "Day.csv.GZ"
    path.write_bytes(gzip.compress(DAY) + gzip.compress(b"more") + b"\0" * 70_000)
    (one,) = members(path)
    assert one.name == f"{path}/Day.csv"
    assert one.read() == DAY + b"more"


def test_stored_entries_and_utf8_names_are_read():
    """Uncompressed members and names beyond ASCII, flagged or not, are ordinary."""
    read, _ = opened(honest_zip({"Zähler/Tag 1.csv": DAY}, zipfile.ZIP_STORED))
    assert read == {"in/Zähler/Tag 1.csv": DAY}
    read, _ = opened(lying_zip(Lie(name="Zähler.csv".encode()), Lie(name=b"Z\x84hler 2.csv")))
    assert list(read) == ["in/Zähler.csv", "in/Zähler 2.csv"]


def test_sizes_behind_the_data_are_read():
    """A zip written to a pipe has its sizes in data descriptors; that is no contradiction."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise OSError("pipe")

        def tell(self):
            raise OSError("pipe")

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", DAY)
        archive.writestr("b.csv", DAY * 2)
    assert opened(pipe.getvalue()) == ({"in/a.csv": DAY, "in/b.csv": DAY * 2}, {})


def test_a_small_zip64_is_read():
    """Zip64 fields are legal in small archives too."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("day.csv", "w", force_zip64=True) as member,
    ):
        member.write(DAY)
    assert opened(out.getvalue()) == ({"in/day.csv": DAY}, {})
    wide = struct.pack("<2H2Q", 1, 16, len(DAY), len(packed(DAY)))
    full = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": wide}
    assert opened(lying_zip(Lie(local=full, central=full))) == ({"in/day.csv": DAY}, {})


def packed(data: bytes) -> bytes:
    """Raw deflate data, as it lies in a zip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def with_end64(archive: bytes, **lies: int) -> bytes:
    """The archive with a zip64 end record and its locator."""
    at = archive.rindex(b"PK\5\6")
    *_, here, count, size, offset, _ = struct.unpack("<4s4H2LH", archive[at : at + 22])
    said = {"count": count, "size": size, "offset": offset, "length": 44, "at": at} | lies
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", said["length"], 45, 45, 0, 0, here, said["count"],
        said["size"], said["offset"],
    )  # fmt: skip
    return archive[:at] + record + struct.pack("<4sLQL", b"PK\6\7", 0, said["at"], 1) + archive[at:]


def test_a_zip64_end_record_is_read():
    """Both end records are there and say the same."""
    assert opened(with_end64(lying_zip(Lie()))) == ({"in/day.csv": DAY}, {})


def test_more_than_65535_members_are_read_with_and_without_zip64():
    """70,000 members are many, not hostile; writers without zip64 keep 16 bits of the count."""
    archive = honest_zip(dict.fromkeys((f"{i}" for i in range(70_000)), b""), zipfile.ZIP_STORED)
    start = archive.rindex(b"PK\6\6")
    short = archive[:start] + struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, 70_000 & 0xFFFF, 70_000 & 0xFFFF,
        *struct.unpack("<2Q", archive[start + 40 : start + 56]), 0,
    )  # fmt: skip
    for one in (archive, short):
        assert sum(isinstance(found, Member) for found in members(one)) == 70_000


@pytest.mark.parametrize("memory_bytes", [1 << 10, 32 << 20])
def test_a_year_of_zeros_passes(memory_bytes):
    """A de-energised site packs more than 500 to 1 and is honest, in memory or in a file."""
    row = b"300,20250101," + b"0.000," * 288 + b"A,,,20250102000000,\r\n"
    year = b"100,NEM12,202601010000,MDP,RET\r\n" + row * 365 + b"900\r\n"
    archive = honest_zip({"year.csv": year})
    assert len(year) > 250 * len(archive)
    assert opened(archive, memory_bytes=memory_bytes) == ({"in/year.csv": year}, {})
    whole = row * (66_000_000 // len(row))  # past the absolute size the ratio is asked
    _, refused = opened(honest_zip({"bomb": whole * 2}), ratio_after_bytes=64 << 20)
    assert "limit ratio" in refused["in/bomb"]


def test_folders_and_macos_leftovers_are_not_files():
    """Folder entries, __MACOSX/ and .DS_Store are skipped without a word."""
    names = {"a/": b"", "a/day.csv": DAY, "__MACOSX/._day.csv": b"x", "a/.DS_Store": b"x"}
    assert opened(honest_zip(names)) == ({"in/a/day.csv": DAY}, {})
    folder = Lie(name=b"a", data=b"", central={"attributes": (stat.S_IFDIR | 0o755) << 16})
    assert opened(lying_zip(folder, Lie())) == ({"in/day.csv": DAY}, {})


def test_padding_and_comments_behind_a_zip_are_harmless():
    """Transfers append zeros or line ends, archivers a comment; neither changes a member."""
    archive = lying_zip(Lie(), comment=b"packed by hand ")
    for tail in (b"", b"\0" * 40, b"\r\n", b"\x1a"):
        assert opened(archive + tail) == ({"in/day.csv": DAY}, {})


def test_backslashes_between_folders_are_read_as_slashes():
    """Old Windows writers separate folders with backslashes."""
    assert opened(lying_zip(Lie(name=rb"week\day.csv")))[0] == {"in/week/day.csv": DAY}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (DAY, "text"),
        (b"", "text"),
        (b" \r\n\t<a/>", "xml"),
        (b"\xef\xbb\xbf<a/>", "xml"),
        ("\ufeff <a/>".encode("utf-16-le"), "xml"),
        ("\ufeff<a/>".encode("utf-16-be"), "xml"),
        ("\ufeff100,NEM12".encode("utf-16-le"), "text"),
    ],
)
def test_the_kind_is_decided_by_content(data, kind):
    """The first character that is not blank tells XML from text, whatever the encoding."""
    (one,) = members(data)
    assert one.kind == kind


def test_ten_thousand_small_members_need_one_look_at_the_file(tmp_path, monkeypatch):
    """A zip of many small files is opened once, and none of them gets a temporary file."""
    path = tmp_path / "many.zip"
    path.write_bytes(honest_zip({f"{i}.csv": b"%06d," % i + DAY for i in range(10_000)}))
    looks = []
    real = Path.open

    def counted(path, *args, **kwargs):
        looks.append(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", counted)
    monkeypatch.delattr(blob.tempfile, "TemporaryFile")
    assert len({one.sha256 for one in members(path)}) == 10_000
    assert looks == [path]


# ── hostile archives ──────────────────────────────────────────────────────────────────────

LINK = {"attributes": (stat.S_IFLNK | 0o777) << 16}
BIG = b"0" * 5_000_000

ONE_BAD_MEMBER = {
    "folder above": (Lie(name=b"../../etc/passwd"), "climbs out"),
    "folder above, hidden": (Lie(name=b"a/../../b"), "climbs out"),
    "folder above, Windows": (Lie(name=rb"..\evil.csv"), "climbs out"),
    "absolute": (Lie(name=b"/etc/passwd"), "absolute"),
    "drive letter": (Lie(name=rb"C:\evil.csv"), "absolute"),
    "network share": (Lie(name=rb"\\server\share\evil.csv"), "absolute"),
    "NUL in the name": (Lie(name=b"good.csv\0.exe"), "control characters"),
    "escape sequence in the name": (Lie(name=b"\x1b[2Jgood.csv"), "control characters"),
    "reversed text in the name": (Lie(name="\u202evsc.exe".encode()), "control characters"),
    "no name": (Lie(name=b""), "no name"),
    "only dots": (Lie(name=b"./."), "no name"),
    "endless name": (Lie(name=b"n" * 1025), "1,025 bytes"),
    "name not the UTF-8 it says": (
        Lie(name=b"\xff.csv", local={"flags": 2048}, central={"flags": 2048}),
        "UTF-8",
    ),
    "symbolic link": (Lie(name=b"link", data=b"/etc/passwd", central=LINK), "symbolic link"),
    "device": (Lie(central={"attributes": (stat.S_IFCHR | 0o600) << 16}), "special file"),
    "folder with content": (Lie(name=b"folder/"), "holds data"),
    "encrypted": (Lie(local={"flags": 1}, central={"flags": 1}), "encrypted"),
    "encrypted, said at the data only": (Lie(local={"flags": 1}), "disagree"),
    "strongly encrypted": (Lie(central={"flags": 65}, local={"flags": 65}), "encrypted"),
    "bzip2": (Lie(local={"method": 12}, central={"method": 12}), "bzip2"),
    "lzma": (Lie(local={"method": 14}, central={"method": 14}), "lzma"),
    "unknown method": (Lie(local={"method": 77}, central={"method": 77}), "method 77"),
    "two methods": (Lie(local={"method": 0}), "disagree"),
    "another name at the data": (Lie(local={"name": b"bad.csv"}), "one name"),
    "longer name at the data": (Lie(local={"name": b"day.csv.exe"}), "one name"),
    "wrong checksum at the data": (Lie(local={"crc": 1}), "different checksums"),
    "wrong checksum in the directory": (
        Lie(local={"crc": 0, "flags": 8}, central={"crc": 1, "flags": 8}),
        "checksum (CRC-32) is wrong",
    ),
    "wrong checksum in both": (Lie(local={"crc": 1}, central={"crc": 1}), "checksum (CRC-32)"),
    "declares 10 bytes, holds 5 MB": (
        Lie(data=BIG, local={"size": 10}, central={"size": 10}),
        "holds more than the 10 bytes",
    ),
    "declares more than it holds": (
        Lie(local={"size": 99}, central={"size": 99}),
        "holds less than the 99 bytes",
    ),
    "packed data cut short": (Lie(local={"packed": 5}, central={"packed": 5}), "cut short"),
    "bytes hidden behind the data": (
        Lie(after=b"hidden", local={"packed": 50}, central={"packed": 50}),
        "hidden behind",
    ),
    "packed data damaged": (
        Lie(data=b"\xff" * 9, method=0, local={"method": 8}, central={"method": 8}),
        "damaged",
    ),
}


def _true_packed(lie: Lie, title: str) -> Lie:
    """Declare exactly the hidden bytes as packed ones too."""
    if title != "bytes hidden behind the data":
        return lie
    size = len(packed(lie.data)) + len(lie.after)
    return replace(lie, local={"packed": size}, central={"packed": size})


@pytest.mark.parametrize("memory_bytes", [10, 32 << 20], ids=["spooled", "in memory"])
@pytest.mark.parametrize("title", ONE_BAD_MEMBER)
def test_one_bad_member_is_refused_and_its_neighbours_are_read(title, memory_bytes):
    """A member that cannot be trusted is named with its reason; the others come out."""
    lie, reason = ONE_BAD_MEMBER[title]
    archive = lying_zip(
        Lie(name=b"before.csv"), _true_packed(lie, title), Lie(name=b"after.csv", data=b"900")
    )
    read, refused = opened(archive, memory_bytes=memory_bytes)
    assert read == {"in/before.csv": DAY, "in/after.csv": b"900"}
    (name,) = refused
    assert reason in refused[name]
    assert name.isprintable()


GOOD = lying_zip(Lie())
WIDE = struct.pack("<2H2Q", 1, 16, 1 << 40, 1 << 40)
FULL = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF}
FIVE = {"size": 5, "packed": 5}

UNTRUSTED = {
    "entries on one kernel": (
        lying_zip(Lie(), *(Lie(name=b"%d" % i, at=0, local={"name": b""}) for i in range(50))),
        "share the same bytes",
    ),
    "an entry inside another": (
        lying_zip(Lie(name=b"o", data=lying_zip(Lie())[:60], method=0), Lie(at=31)),
        "share the same bytes",
    ),
    "an entry reaching into the directory": (
        lying_zip(Lie(local={"packed": 4000}, central={"packed": 4000})),
        "reaches beyond",
    ),
    "sizes differ": (lying_zip(Lie(local={"size": 10})), "different sizes"),
    "packed sizes differ": (lying_zip(Lie(local={"packed": 10})), "different sizes"),
    "stored with two sizes": (
        lying_zip(Lie(method=0, local={"size": 10}, central={"size": 10})),
        "not packed",
    ),
    "no entry where the directory points": (lying_zip(Lie(), Lie(name=b"b", at=7)), "share"),
    "no data at all there": (lying_zip(Lie(central={"offset": 3})), "no data where"),
    "an offset beyond the file": (lying_zip(Lie(central={"offset": 1 << 30})), "no data where"),
    "end record counts too few": (
        lying_zip(Lie(), Lie(name=b"b"), end={"count": 1, "here": 1}), "says 1"),
    "end record counts too many": (lying_zip(Lie(), end={"count": 9, "here": 9}), "says 9"),
    "split over disks": (lying_zip(Lie(), end={"disk": 1}), "split over several"),
    "half the entries elsewhere": (lying_zip(Lie(), end={"count": 2}), "split over several"),
    "an entry on another disk": (lying_zip(Lie(central={"disk": 1})), "another file"),
    "directory shorter than said": (lying_zip(Lie(), end={"size": 20}), "not where its end"),
    "directory elsewhere": (lying_zip(Lie(), end={"offset": 1}), "not where its end"),
    "directory damaged": (GOOD.replace(b"PK\1\2", b"PK\1\3"), "directory is damaged"),
    "directory cut inside an entry": (
        lying_zip(Lie(central={"extra": b"1234"})).replace(b"\4" + b"\0" * 9, b"\5" + b"\0" * 9),
        "directory is damaged",
    ),
    "other bytes behind the end": (GOOD + b"x" * 40, "other bytes follow"),
    "two end records": (
        lying_zip(Lie(), comment=struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)),
        "two end records",
    ),
    "no end record": (GOOD[:-30], "cut short"),
    "only the signature": (b"PK\3\4", "cut short"),
    "other bytes before the zip moved it": (GOOD[:4] + b"junk" + GOOD[4:], "not where its end"),
    "zip64 says 1 TiB of packed data": (
        lying_zip(Lie(local=FULL | {"extra": WIDE}, central=FULL | {"extra": WIDE})),
        "reaches beyond",
    ),
    "zip64 promised and missing": (lying_zip(Lie(central=FULL)), "does not give it"),
    "zip64 promised and missing at the data": (lying_zip(Lie(local=FULL)), "does not give it"),
    "zip64 end record elsewhere": (with_end64(GOOD, at=1 << 50), "zip64 end record"),
    "zip64 end record of another size": (with_end64(GOOD, length=99), "does not have the size"),
    "zip64 end record disagrees": (with_end64(GOOD, offset=7), "disagree"),
    "zip64 end record on another disk": (
        with_end64(GOOD).replace(b"PK\6\7\0", b"PK\6\7\1"), "zip64 end record"),
    "empty": (lying_zip(), "holds no files"),
    "only leftovers": (lying_zip(Lie(name=b".DS_Store")), "holds no files"),
    "an Excel workbook": (
        lying_zip(Lie(name=b"[Content_Types].xml"), Lie(name=b"xl/workbook.xml")), "Excel"),
    "gzip cut short": (gzip.compress(DAY)[:-9], "cut short"),
    "gzip without its checksum": (gzip.compress(DAY)[:-4], "cut short"),
    "gzip with a wrong checksum": (
        gzip.compress(DAY)[:-8] + b"\0\0\0\0" + gzip.compress(DAY)[-4:], "checksum is wrong"),
    "gzip with a wrong length": (gzip.compress(DAY)[:-4] + b"\0\0\0\0", "length is wrong"),
    "gzip damaged": (gzip.compress(DAY)[:10] + b"\xff" * 50, "damaged"),
    "gzip followed by other bytes": (gzip.compress(DAY) + b"more", "other bytes follow"),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 40, "a 7-Zip archive"),
    "RAR": (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
    "bzip2": (b"BZh91AY&SY", "a bzip2 file"),
    "tar": (b"day.csv".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
}  # fmt: skip


@pytest.mark.parametrize("title", UNTRUSTED)
def test_a_container_that_cannot_be_trusted_is_refused_once(title):
    """A container that lies as a whole gives one refusal with its reason, and no member."""
    archive, reason = UNTRUSTED[title]
    read, refused = opened(archive)
    assert read == {}
    assert list(refused) == ["in"]
    assert reason in refused["in"]


def test_a_bad_container_beside_good_files_is_refused_alone():
    """An inner archive that cannot be opened does not hold back its neighbours."""
    bomb = lying_zip(Lie(), *(Lie(name=b"%d" % i, at=0) for i in range(500)))
    read, refused = opened(honest_zip({"a.csv": DAY, "bomb.zip": bomb, "z.csv": DAY}))
    assert read == {"in/a.csv": DAY, "in/z.csv": DAY}
    assert "share the same bytes" in refused["in/bomb.zip"]


def test_members_of_one_name_are_all_refused():
    """Two readers would take different ones, so none is guessed to be the right one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive = lying_zip(Lie(), Lie(data=b"900"), Lie(name=b"./day.csv"), Lie(name=b"other"))
    found = list(members(archive, name="in"))
    assert [one.name for one in found] == ["in/day.csv"] * 3 + ["in/other"]
    assert [isinstance(one, Refused) for one in found] == [True, True, True, False]
    assert "3 members of this name" in found[0].error.message


def test_a_web_page_before_a_zip_is_a_web_page():
    """The first bytes decide what a file is; nothing is searched for behind them."""
    (one,) = members(b"<html></html>" + GOOD)
    assert one.kind == "xml"
    assert one.size == 13 + len(GOOD)


def test_a_bomb_is_refused_before_it_is_inflated(monkeypatch):
    """Declared sizes are added up first: a small zip that would give 30 MB costs no work."""
    bomb = honest_zip({f"{i}": b"0" * 10_000_000 for i in range(3)})
    monkeypatch.delattr(zlib, "decompressobj")
    read, refused = opened(bomb, total_bytes=29_999_999)
    assert read == {}
    assert "total_bytes" in refused["in"]


# ── limits: one below, exactly, one above ─────────────────────────────────────────────────


def nested(depth: int) -> bytes:
    """A zip in a zip in a zip ..."""
    data = DAY
    for _ in range(depth):
        data = honest_zip({"x": data})
    return data


@pytest.mark.parametrize(("depth", "passes"), [(2, True), (3, True), (4, False)])
def test_depth_limit(depth, passes):
    """Three containers inside each other, not four; the refusal names the fourth."""
    read, refused = opened(nested(depth))
    assert bool(read) is passes
    assert [text for text in refused.values() if "limit depth" not in text] == []
    assert bool(refused) is not passes


@pytest.mark.parametrize(("count", "passes"), [(9, True), (10, True), (11, False)])
def test_members_limit(count, passes):
    """Entries are counted before any is opened."""
    read, refused = opened(honest_zip({f"{i}": DAY for i in range(count)}), members=10)
    assert len(read) == (count if passes else 0)
    assert passes or "over the limit (members)" in refused["in"]


@pytest.mark.parametrize(("inner", "passes"), [(7, True), (8, True), (9, False)])
def test_members_limit_counts_all_layers(inner, passes):
    """An archive's entries and those of the archives in it are counted together."""
    archive = honest_zip({"z": honest_zip({f"{i}": DAY for i in range(inner)}), "a": DAY})
    read, refused = opened(archive, members=10)
    assert len(read) == (inner + 1 if passes else 1)
    assert passes or "members" in refused["in/z"]


@pytest.mark.parametrize(("parts", "passes"), [(9, True), (10, True), (11, False)])
def test_gzip_parts_are_counted_as_members(parts, passes):
    """A gzip of a million tiny parts would cost time, not space."""
    read, refused = opened(gzip.compress(b"x") * parts, members=10)
    assert bool(read) is passes
    assert passes or "parts" in refused["in"]


@pytest.mark.parametrize("memory_bytes", [10, 32 << 20], ids=["spooled", "in memory"])
@pytest.mark.parametrize(("size", "passes"), [(999, True), (1000, True), (1001, False)])
@pytest.mark.parametrize("pack", [lambda data: honest_zip({"content": data}), gzip.compress])
def test_member_bytes_limit(pack, size, passes, memory_bytes):
    """One member's unpacked size, zip or gzip, in memory or not."""
    read, refused = opened(pack(b"0" * size), member_bytes=1000, memory_bytes=memory_bytes)
    assert bool(read) is passes
    assert [("member_bytes" in text) for text in refused.values()] == ([] if passes else [True])


@pytest.mark.parametrize(("size", "passes"), [(499, True), (500, True), (501, False)])
@pytest.mark.parametrize("pack", [lambda data: honest_zip({"a": b"0" * 500, "b": data})])
def test_total_bytes_limit(pack, size, passes):
    """All members together; nothing comes out of an archive that declares too much."""
    read, refused = opened(pack(b"0" * size), total_bytes=1000)
    assert len(read) == (2 if passes else 0)
    assert passes or "total_bytes" in refused["in"]


@pytest.mark.parametrize(("spare", "passes"), [(1, True), (0, True), (-1, False)])
def test_total_bytes_limit_counts_all_layers(spare, passes):
    """What was unpacked in one layer leaves less for the next; gzip is counted as it grows."""
    inner = honest_zip({"day.csv": DAY})
    for outer in (honest_zip({"inner.zip": inner}), gzip.compress(inner)):
        read, refused = opened(outer, total_bytes=len(inner) + len(DAY) + spare)
        assert bool(read) is passes
        assert passes or ["total_bytes" in text for text in refused.values()] == [True]


@pytest.mark.parametrize("pack", [lambda data: honest_zip({"content": data}), gzip.compress])
@pytest.mark.parametrize(("spare", "passes"), [(1, True), (0, True), (-1, False)])
def test_ratio_limit(pack, spare, passes):
    """Exactly the ratio passes; the size from which it is asked is a limit of its own."""
    data = b"0" * 200_000
    source = pack(data)
    packed_size = len(packed(data)) if source.startswith(b"PK") else len(source)
    ratio = (len(data) + spare) / packed_size
    read, refused = opened(source, ratio=ratio, ratio_after_bytes=1000)
    assert bool(read) is passes
    assert passes or ["limit ratio" in text for text in refused.values()] == [True]
    read, refused = opened(source, ratio=1, ratio_after_bytes=len(data) + spare)
    assert bool(read) is passes


@pytest.mark.parametrize(("spare", "passes"), [(1, True), (0, True), (-1, False)])
def test_directory_limit(spare, passes):
    """The directory is read into memory, so its size is bounded first."""
    archive = honest_zip({"day.csv": DAY})
    size = len(archive) - 22 - archive.index(b"PK\1\2")
    read, refused = opened(archive, directory_bytes=size + spare)
    assert bool(read) is passes
    assert passes or "directory_bytes" in refused["in"]


@pytest.mark.parametrize(("spare", "in_file"), [(1, False), (0, False), (-1, True)])
def test_memory_limit_decides_where_bytes_lie(spare, in_file, monkeypatch):
    """Content larger than memory_bytes goes to a temporary file that leaves nothing behind."""
    made = []
    real = blob.tempfile.TemporaryFile

    def counted(*args, **kwargs):
        made.append(real(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(blob.tempfile, "TemporaryFile", counted)
    (one,) = members(gzip.compress(DAY), limits=Limits(memory_bytes=len(DAY) + spare))
    assert bool(made) is in_file
    assert one.read() == DAY
    with one.open() as first, one.open() as second:  # each with its own position
        assert first.read(3) + second.read(3) + first.read() == DAY[:3] * 2 + DAY[3:]
    one.close()
    assert all(file.closed for file in made)


def test_a_small_limit_bounds_an_endless_stream():
    """A stream without end is cut at total_bytes."""

    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:] = b"0" * len(buffer)
            return len(buffer)

    _, refused = opened(Endless(), total_bytes=1 << 20)
    assert "total_bytes" in refused["in"]


# ── sources ───────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_walked_in_order_and_unfinished_files_wait(tmp_path):
    """Files come sorted by name, folders within; hidden, .tmp and .part files are left alone."""
    for name in ("b.csv", "a/2.csv", "a/1.zip", ".hidden", "c.tmp", "d.PART", ".git/x"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(GOOD if name.endswith("zip") else DAY)
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [one.name for one in members(tmp_path)]
    assert found == [f"{tmp_path}/{n}" for n in ("a/1.zip/day.csv", "a/2.csv", "b.csv")]
    assert [one.name for one in members(tmp_path / "c.tmp")] == [f"{tmp_path}/c.tmp"]


def test_a_list_mixes_kinds_of_sources(tmp_path):
    """Paths, bytes and open files may stand in one list; each has its own limits."""
    path = tmp_path / "day.csv"
    path.write_bytes(DAY)
    with path.open("rb") as handle:
        sources = [path, str(path), GOOD, bytearray(DAY), io.BytesIO(DAY), handle]
        found = list(members(sources, limits=Limits(members=1)))
    names = [str(path)] * 2 + ["<bytes>/day.csv", "<bytes>", "<stream>", str(path)]
    assert [one.name for one in found] == names
    assert {one.read() for one in found} == {DAY}


def test_a_pipe_is_spooled(tmp_path):
    """A source that cannot be sought, such as a pipe, is read once and opened like a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(GOOD,))
    writer.start()
    (one,) = members(pipe)
    writer.join()
    assert one.name == f"{pipe}/day.csv"
    assert one.read() == DAY
    reader, written = os.pipe()
    os.write(written, GOOD)
    os.close(written)
    with open(reader, "rb") as handle:  # noqa: PTH123 (a descriptor, not a path)
        assert [one.read() for one in members(handle)] == [DAY]


def test_a_file_object_is_read_from_where_it_stands():
    """What the caller has read already is his; large ones are not copied into memory."""
    for memory_bytes in (1, 1 << 20):
        handle = io.BytesIO(b"skipped" + GOOD)
        handle.seek(7)
        (one,) = members(handle, name="x.zip", limits=Limits(memory_bytes=memory_bytes))
        assert (one.name, one.read()) == ("x.zip/day.csv", DAY)
        assert not handle.closed


def test_a_large_file_on_disk_is_neither_copied_nor_limited(tmp_path):
    """Limits are for what is unpacked; a plain file is opened where it lies, twice if asked."""
    path = tmp_path / "big.csv"
    path.write_bytes(DAY * 100)
    (one,) = members(path, limits=Limits(memory_bytes=10, member_bytes=10, total_bytes=10))
    with one, one.open() as handle:
        assert handle.read() == DAY * 100
        assert handle.name == str(path)
        assert one.sha256 == hashlib.sha256(DAY * 100).hexdigest()


def test_a_large_file_that_changes_meanwhile_is_refused(tmp_path):
    """Two looks at one file must see the same bytes."""
    path = tmp_path / "big.csv"
    path.write_bytes(DAY * 100)
    (one,) = members(path, limits=Limits(memory_bytes=10))
    path.write_bytes(DAY * 101)
    with pytest.raises(ArchiveRefused, match="changed while"):
        one.open()
    path.unlink()
    with pytest.raises(ArchiveRefused, match="cannot be read"):
        one.read()


def test_a_missing_path_is_the_callers_mistake(tmp_path):
    """A path to nothing is said at once, before anything else is read."""
    for path in (tmp_path / "none", str(tmp_path / "none" / "x"), "", "a\0b", "x" * 5000):
        with pytest.raises(UsageError):
            members([DAY, path])


@pytest.mark.parametrize("source", [None, 5, io.StringIO("text"), object()])
def test_what_is_no_source_is_the_callers_mistake(source):
    """Text files and other objects are named with what is accepted."""
    with pytest.raises(UsageError, match="Cannot read from"):
        members(source)
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(UsageError, match="cannot be read"):
        members(closed)
    with pytest.raises(UsageError, match="one source"):
        members([DAY], name="x")


def test_a_file_that_may_not_be_read_is_refused_beside_the_others(tmp_path, monkeypatch):
    """No permission for one file or folder does not hold back the rest."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(DAY)
    (tmp_path / "locked").mkdir()
    real_open, real_scandir = Path.open, os.scandir

    def no_entry(path, *args, **kwargs):
        if path.name == "a.csv":
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)

    def no_list(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real_scandir(path)

    monkeypatch.setattr(Path, "open", no_entry)
    monkeypatch.setattr(os, "scandir", no_list)
    found = {one.name.rpartition("/")[2]: one for one in members(tmp_path)}
    assert isinstance(found["b.csv"], Member)
    for name in ("a.csv", "locked"):
        assert "Permission denied" in found[name].error.message


def test_a_stream_that_breaks_is_refused():
    """An error of the caller's stream is a refusal, not a crash."""
    with gzip.open(io.BytesIO(gzip.compress(DAY)[:-6])) as short:
        (one,) = members([short])
    assert isinstance(one, Refused)


def test_no_room_for_a_temporary_file_is_the_machines_fault(monkeypatch):
    """A full disk is not blamed on the data, and says what to do."""

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blob.tempfile, "TemporaryFile", full)
    with pytest.raises(SystemFault, match=r"No space left.*TMPDIR"):
        list(members(GOOD, limits=Limits(memory_bytes=1)))


def test_stopping_early_leaves_nothing_open():
    """An iterator that is closed half way lets go of its temporary files."""
    found = members(honest_zip({"a": DAY, "b": DAY}), limits=Limits(memory_bytes=1))
    next(found).close()
    found.close()


def test_every_limit_is_documented_with_its_default():
    """The page on archives lists each limit and what it is."""
    page = (Path(__file__).parents[2] / "docs" / "archives.md").read_text(encoding="utf-8")
    for limit in fields(Limits):
        assert f"| `{limit.name}` | {limit.default:,} |" in page


# ── anything at all ───────────────────────────────────────────────────────────────────────

SEEDS = (
    GOOD,
    honest_zip({"a/b.csv": DAY, "c.zip": honest_zip({"d": b"0" * 5000})}),
    gzip.compress(honest_zip({"a": DAY})) + gzip.compress(b""),
    with_end64(lying_zip(Lie(), Lie(name=b"b", method=0))),
)


@settings(max_examples=400, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), max_size=6),
    cut=st.integers(0, 40),
    memory_bytes=st.sampled_from([1, 100, 1 << 20]),
)
def test_no_damage_raises_or_passes_a_limit(seed, edits, cut, memory_bytes):
    """However a container is damaged: members and refusals, within the limits, never an error."""
    data = bytearray(seed)
    for place, new in edits:
        at = place % len(data)
        data[at : at + len(new)] = new
    check_bounds(bytes(data[: len(data) - cut]), memory_bytes)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08\0"]), st.binary(max_size=300))
def test_no_bytes_raise(start, rest):
    """Random bytes, with or without a container's signature, give members or refusals."""
    check_bounds(start + rest, 50)


def check_bounds(data: bytes, memory_bytes: int) -> None:
    """Open it under small limits; what comes out stays within them."""
    limits = Limits(depth=2, members=5, member_bytes=4000, total_bytes=6000, ratio=50,
                    ratio_after_bytes=1000, memory_bytes=memory_bytes)  # fmt: skip
    total = 0
    for one in members(data, limits=limits):
        if isinstance(one, Refused):
            assert isinstance(one.error, ArchiveRefused)
            continue
        with one:
            total += len(one.read())
    assert total <= max(limits.total_bytes, len(data))
