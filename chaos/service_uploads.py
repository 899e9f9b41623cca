"""Uploads that collide, are cut off, or find no room.

Promises: the same bytes from everywhere at once are loaded once, and everybody is told; an upload
that is cut off leaves nothing, neither in the ledger nor on the disk; on a full disk uploads are
refused with the time to come again, and everything that was accepted is loaded.

Look next: ``running.py`` for the service; ``nemflow.service.bodies`` for what reads uploads.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from chaos.report import Attack
from chaos.running import MIX, NEMFLOW, Running, judge, running
from nemflow.mdff.generate import generate
from nemflow.simulating import run
from nemflow.simulating.asking import FINAL, Asking
from nemflow.simulating.sending import HttpDoor, Pace
from nemflow.store import open_store

_LOADS = 6  # calls of nemflow load at the same moment
_DROPPED = 50  # copies that lie in the drop folder at that moment
_SWEPT = 50  # copies in a folder that two calls of nemflow sweep take in
_SWEEPS = 2
_PATIENCE = 120.0


def same_file(
    folder: Path, rng: random.Random, *, times: int, queue: str, database: str | None, name: str
) -> Attack:
    """One file by HTTP, folder, batch and ``nemflow load``, all at the same moment."""
    attack = Attack(
        f"Service: the same file at once, {name}",
        f"One file is uploaded by {times} senders at the same moment, while {_DROPPED} copies of "
        f"it are dropped into the watched folder, {_SWEEPS} calls of `nemflow sweep` take in "
        f"{_SWEPT} more, and {_LOADS} calls of `nemflow load` load it into the same store: again "
        "with other bytes, until all kinds of wrapping were tried. It must be loaded once, and "
        "every other delivery be its duplicate.",
    )
    seen: Counter[str] = Counter()
    channels: Counter[str] = Counter()
    drop = folder / "drop"
    drop.mkdir(parents=True)
    settings = {"NEMFLOW_FOLDER_PATH": str(drop), "NEMFLOW_FOLDER_SETTLE_SECONDS": "1"}
    given = {"database": database, "queue": queue, "settings": settings}
    with running(folder, **given) as service, service.client() as client:
        for nth, wrapping in enumerate(("plain", "zip", "gz")):
            text = generate(nmis=5, days=20, streams=("E1",), seed=rng.randrange(10**6))
            path = _wrapped(folder / "given", f"file-{nth}", wrapping, text)
            answers = _at_once(service, path, times, drop)
            refused = [answer for answer in answers if answer not in (200, 202)]
            if refused:
                attack.wrong.append(f"{wrapping}: uploads answered with {Counter(refused)}")
            rows = _settled(client, times + _LOADS + _DROPPED + _SWEPT, f"file-{nth}")
            states = Counter(row["state"] for row in rows)
            seen.update(states)
            channels.update(row["channel"] for row in rows)
            if states["loaded"] != 1 or states["duplicate"] != len(rows) - 1:
                attack.wrong.append(f"{wrapping}: {dict(states)} instead of one loaded")
            attack.wrong += _of_channels(rows, wrapping, times)
        attack.wrong += _left_in(drop, 3 * _DROPPED)
        where = database or f"sqlite:///{folder}/nemflow.db"
        with open_store(where) as store:
            days = store.nmis()["days"].to_list()
            if days != [20] * 5:  # the three files tell of the same days
                attack.wrong.append(f"the store has {days} days")
        attack.wrong += service.verify()
    attack.counts = {f"deliveries by {channel}": n for channel, n in sorted(channels.items())}
    attack.counts |= seen
    return attack


def _of_channels(rows: list[dict[str, Any]], wrapping: str, times: int) -> list[str]:
    """Whether every way in made as many deliveries as it was given files: none lost, none twice."""
    wanted = {"http": times, "folder": _DROPPED, "batch": _SWEPT, "cli": _LOADS}
    came = Counter(row["channel"] for row in rows)
    return [f"{wrapping}: {dict(came)} instead of {wanted}"] if came != wanted else []


def _left_in(drop: Path, dropped: int) -> list[str]:
    """Whether every file of the drop folder has gone to ``done``."""
    until = time.monotonic() + _PATIENCE
    while True:
        done = len(list((drop / "done").glob("*")))
        rest = [path.name for path in drop.rglob("*") if path.is_file()]
        if done == dropped == len(rest):
            return []
        if time.monotonic() > until:
            return [f"{done} of {dropped} dropped files are in done, {len(rest) - done} elsewhere"]
        time.sleep(0.3)


def _at_once(service: Running, path: Path, times: int, drop: Path) -> list[int]:
    """Upload it ``times`` times, and bring it all other ways, together; the uploads' statuses."""
    together = threading.Barrier(times + 2)
    body, answers = path.read_bytes(), [0] * times
    batch = service.folder / f"batch-{path.name}"
    batch.mkdir()
    for nth in range(_SWEPT):
        (batch / f"{path.stem}-{nth}{path.suffix}").write_bytes(body)

    def send(nth: int) -> None:
        with service.client() as client:
            together.wait()
            with contextlib.suppress(httpx.HTTPError):
                answers[nth] = client.put(f"/v1/deliveries/{path.name}", content=body).status_code

    def drop_them() -> None:
        together.wait()
        for nth in range(_DROPPED):
            (drop / f"{path.stem}-{nth}{path.suffix}").write_bytes(body)

    threads = [threading.Thread(target=send, args=(nth,)) for nth in range(times)]
    threads.append(threading.Thread(target=drop_them))
    for thread in threads:
        thread.start()
    commands = [["load", str(path)]] * _LOADS + [["sweep", str(batch)]] * _SWEEPS
    called = [
        subprocess.Popen(
            [*NEMFLOW, *command], cwd=service.folder, env=service.environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]  # fmt: skip
    time.sleep(1.0)  # the commands take about so long to begin
    together.wait()
    for thread in threads:
        thread.join()
    for process in called:
        process.wait(_PATIENCE)
    return answers


def _settled(client: httpx.Client, count: int, stem: str) -> list[dict[str, Any]]:
    """The deliveries of a file from outside, once all of them are final."""
    until = time.monotonic() + _PATIENCE
    while True:
        rows = [
            row
            for row in Asking(client).deliveries(0)
            if row["parent"] is None and Path(row["name"]).name.startswith(stem)
        ]
        done = sum(row["state"] in FINAL for row in rows)
        if done >= count or time.monotonic() > until:
            return rows
        time.sleep(0.3)


def _wrapped(folder: Path, stem: str, wrapping: str, text: bytes) -> Path:
    import gzip
    import zipfile

    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}.{'csv' if wrapping == 'plain' else wrapping}"
    if wrapping == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{stem}-inside.csv", text)
    else:
        path.write_bytes(gzip.compress(text) if wrapping == "gz" else text)
    return path


def cut_off(folder: Path, rng: random.Random, *, times: int) -> Attack:
    """Uploads whose connection ends before their last byte."""
    attack = Attack(
        "Service: uploads cut off",
        f"{times} uploads end before their last byte: their connection is closed, reset or just "
        "left alone for a moment and then closed; as a raw body, in chunks and as a form. "
        "Between them whole ones are sent. None of the first may leave anything, all of the "
        "second must be loaded.",
    )
    text = generate(nmis=4, days=20, streams=("E1",), seed=rng.randrange(10**6))
    whole, answered = 0, 0
    with running(folder, workers=1) as service, service.client() as client:
        for nth in range(times):
            answered += _cut(service.url, text, rng)
            if nth % 10 == 0:
                body = generate(days=1, streams=("E1",), seed=nth)
                told = client.put(f"/v1/deliveries/whole-{nth}.csv", content=body)
                whole += told.status_code == 202
        rows = _settled(client, whole, "whole")
        every = Asking(client).deliveries(0)
        time.sleep(1.0)
        landing = list((folder / "nemflow-spool" / "landing").iterdir())
        attack.wrong += service.verify()
    if len(every) != whole or {row["state"] for row in rows} - {"loaded", "duplicate"}:
        attack.wrong.append(f"{len(every)} deliveries of {whole} whole uploads")
    if landing:
        attack.wrong.append(f"{len(landing)} unfinished files are left")
    if answered:
        attack.wrong.append(f"{answered} uploads that were cut off were accepted")
    attack.counts = {"uploads cut off": times, "whole uploads": whole, "files left": len(landing)}
    return attack


def _cut(url: str, text: bytes, rng: random.Random) -> bool:
    """One upload that is cut off; whether it was accepted nevertheless."""
    parts = urlsplit(url)
    kind = rng.choice(("length", "chunked", "form"))
    sent = text[: rng.randrange(len(text) - 1)]
    where, more = "PUT /v1/deliveries/cut.csv", [f"Content-Length: {len(text)}"]
    if kind == "chunked":
        more = ["Transfer-Encoding: chunked"]
        size = rng.randint(100, 20_000)
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    elif kind == "form":
        where = "POST /v1/deliveries"
        head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="cut.csv"\r\n\r\n'
        sent = head + sent
        more = ["Content-Type: multipart/form-data; boundary=cut", f"Content-Length: {10**7}"]
    lines = [f"{where} HTTP/1.1", f"Host: {parts.netloc}", *more, "", ""]
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as link:
        if rng.random() < 0.5:  # no goodbye: a reset
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with contextlib.suppress(OSError):
            link.sendall("\r\n".join(lines).encode() + sent)
            time.sleep(rng.choice((0.0, 0.0, 0.05)))
            if rng.random() < 0.3:
                link.shutdown(socket.SHUT_WR)
                return link.recv(100).startswith(b"HTTP/1.1 2")
    return False


def full_disk(folder: Path, rng: random.Random, *, files: int) -> Attack:
    """A spool on a disk of a few megabytes; nobody loads until it is full."""
    attack = Attack(
        "Service: the spool's disk is full",
        f"The spool is on a disk of 12 MB (a tmpfs), of which nothing is to stay free; {files} "
        "files of about 100 kB come while no worker runs, until the disk takes no byte more; "
        "then two workers begin. Uploads must be refused with 507 and Retry-After, those accepted "
        "be loaded, and what was refused be accepted when it comes again.",
    )
    spool = folder / "spool"
    with _small_disk(spool, 12) as mounted:
        if not mounted:
            attack.skipped = "a tmpfs can be mounted by root only"
            return attack
        settings = {"NEMFLOW_SPOOL_FOLDER": str(spool), "NEMFLOW_SPOOL_FREE_BYTES": "1"}
        with running(folder, workers=0, settings=settings) as service:
            full = threading.Event()
            with service.client() as client:
                asking = Asking(client)
                mix = replace(MIX, nmis=4, days=30, files=files, seed=rng.randrange(10**6))

                def begin() -> None:
                    full.wait(60)
                    service.restart_with(workers=2)

                threading.Thread(target=begin, daemon=True).start()
                watcher = threading.Thread(target=_until_full, args=(spool, full), daemon=True)
                watcher.start()
                pace = Pace(per_second=40, senders=6, patience=300)
                found = run.send(mix, HttpDoor(client), pace, asking)
                run.drain(found, asking, 200)
                run.compare(found, asking)
            judge(service, found, attack)
    if not full.is_set():
        attack.wrong.append("the disk was never full")
    if not attack.counts["uploads refused at first"]:
        attack.wrong.append("nothing was refused")
    return attack


def _until_full(spool: Path, full: threading.Event) -> None:
    """Set when nothing fits any more, and a moment has passed."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        stat = os.statvfs(spool)
        if stat.f_bavail * stat.f_frsize < 150_000:
            time.sleep(2.0)
            full.set()
            return
        time.sleep(0.1)


@contextmanager
def _small_disk(where: Path, megabytes: int) -> Iterator[bool]:
    """A tmpfs there during the block; False where it cannot be mounted."""
    where.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(where)]
    try:
        done = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(where)], check=False)  # noqa: S607
