"""``submit``: send files to a service, and wait for what becomes of them.

Why: the machine that has the files is often not the one that has the store.

Promises: each file is sent with its digest and a key of its own, so that sending again after a lost
answer is harmless; a service that says "later" is obeyed, for as long as ``--patience``; each file
has its row, and a refused one holds back no other. The exit code tells the outcome: 0 all accepted
(with ``--wait``: loaded or duplicates), 1 something was refused or kept out, 2 our key is not
known, 3 not sent, or the service could not load it.

Look next: docs/service.md.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from nemflow.cli import faults, wording
from nemflow.cli.options import ProfileOption, all_there
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import MissingExtra, SystemFault, UsageError
from nemflow.events import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

SERVER = "http://127.0.0.1:8600"
_PIECE = 256 << 10
_LOOK_SECONDS = 0.5
_FINAL = {"loaded", "partly_loaded", "duplicate", "rejected", "dead", "cancelled", "undone"}
_GOOD = {"loaded", "duplicate", "undone"}
_OURS = {"dead", "cancelled"}
#: What was sent is not what came: sent again, for a link may do that once.
_DAMAGED = {"E-LENGTH", "E-DIGEST"}
_DAMAGED_TRIES = 3
_KEY = {401, 403}
_REFUSED, _NOT_SENT = "refused", "not sent"
_LATER = {408, 429, 500, 502, 503, 504, 507}
_SENT = (
    Column("path", "file", gives_way="front"),
    Column("state", style="bold"),
    Column("delivery", right=True, show=wording.plain),
    Column("days_stored", "days stored", right=True, optional=True),
    Column("days_unchanged", "unchanged", right=True, optional=True),
    Column("days_rejected", "rejected", right=True, optional=True),
    Column("duplicate_of", "duplicate of", right=True, show=wording.plain, optional=True),
    Column("error", optional=True),
    Column("sha256", machine_only=True),
)


def submit(
    paths: Annotated[list[Path], typer.Argument(help="Files, also archives.", metavar="FILE")],
    *,
    server: Annotated[
        str, typer.Option("--server", help="Where the service is.", metavar="URL")
    ] = SERVER,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what becomes of them.")] = False,
    profile: ProfileOption = None,
    priority: Annotated[
        str, typer.Option("--priority", help="Lane: urgent, normal or bulk.", metavar="LANE")
    ] = "normal",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Have the service tell what it would do.")
    ] = False,
    patience: Annotated[
        int,
        typer.Option("--patience", min=0, help="Seconds to go on trying.", metavar="SECONDS"),
    ] = 600,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Send files to a running service; its API key comes from NEMFLOW_API_KEY."""
    from nemflow.cli.progress import progress_bar

    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtra("Sending to a service", "service") from error
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    all_there(paths)
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is no file.", hint="Give files; a folder can be zipped.")
    asked: dict[str, Any] = {"priority": priority, "dry_run": str(dry_run).lower()}
    if profile is not None:
        asked["profile"] = profile
    until = time.monotonic() + patience
    try:
        with httpx.Client(
            base_url=server.rstrip("/"), headers=key_header(), timeout=httpx.Timeout(60, connect=10)
        ) as client:
            sent, stopped = _all_sent(client, paths, asked, until)
            if wait:
                with progress_bar("Waiting") as tell:
                    sent = [
                        row | _waited(client, row["delivery"], until, tell)
                        if row["delivery"] is not None
                        else row
                        for row in sent
                    ]
    except httpx.InvalidURL as error:
        raise UsageError(f"--server {server!r} is no URL.", hint=f"For example {SERVER}") from error
    out.rows(_SENT, sent)
    if stopped is not None:
        raise stopped
    states = {row["state"] for row in sent}
    if not wait:
        if _REFUSED in states:
            raise typer.Exit(faults.PROBLEMS)
        return
    if states & _OURS or not states <= _FINAL | {_REFUSED}:
        raise typer.Exit(faults.FAULT)
    if not states <= _GOOD:
        raise typer.Exit(faults.PROBLEMS)


def _all_sent(
    client: httpx.Client, paths: list[Path], asked: dict[str, Any], until: float
) -> tuple[list[dict[str, Any]], SystemFault | UsageError | None]:
    """Send one file after the other; a row for each, and why the last ones were not sent."""
    from nemflow.cli.progress import progress_bar

    sent: list[dict[str, Any]] = []
    stopped: SystemFault | UsageError | None = None
    total = sum(path.stat().st_size for path in paths)
    with progress_bar("Sending", total) as tell:
        for path in paths:
            row: dict[str, Any] = {"state": _NOT_SENT, "delivery": None}
            if stopped is None:
                try:
                    row = _sent(client, path, asked, until, _Told(tell, len(sent), sent, total))
                except (SystemFault, UsageError) as error:
                    stopped = error
            sent.append({"path": str(path), "size": path.stat().st_size, **row})
    return sent, stopped


class _Told:
    """Tells the progress bar how many bytes of all files were sent."""

    def __init__(
        self, tell: Callable[[Progress], None], done: int, sent: list[dict[str, Any]], total: int
    ) -> None:
        self._tell = tell
        self._files = done
        self._before = sum(row["size"] for row in sent)
        self._total = total

    def __call__(self, path: Path, size: int) -> None:
        """So many bytes of this file."""
        self._tell(Progress(path.name, self._files, 0, self._before + size, self._total))


def _sent(
    client: httpx.Client, path: Path, asked: dict[str, Any], until: float, told: _Told
) -> dict[str, Any]:
    """Send one file until the service has it, or refuses it for good, which its row tells.

    Raises:
        SystemFault: the service cannot take anything now.
        UsageError: it does not know our key.
    """
    import httpx

    headers = {
        **_digest(path),
        "Content-Type": "application/octet-stream",
        "Idempotency-Key": uuid.uuid4().hex,
    }
    tries = 0
    where = f"/v1/deliveries/{quote(path.name, safe='')}"
    pause = 1.0
    while True:
        why, later = "", pause
        try:
            answer = client.put(where, params=asked, headers=headers, content=_bytes(path, told))
        except httpx.TransportError as error:
            why = f"{client.base_url} does not answer: {error or type(error).__name__}."
        else:
            if answer.is_success:
                return dict(answer.json())
            why = in_words(answer)
            damaged = answer.status_code == 400 and _code(answer) in _DAMAGED
            if damaged:  # on the way, or the file is being written: three times, then it is us
                tries += 1
                if tries < _DAMAGED_TRIES:
                    time.sleep(pause)
                    headers |= _digest(path)
                    continue
            if damaged or answer.status_code not in _LATER:
                if answer.status_code in _KEY:
                    raise UsageError(why)
                if answer.status_code >= 500:
                    raise SystemFault(why)
                return {"state": _REFUSED, "delivery": None, "error": why}
            later = _later(answer, pause)
        if time.monotonic() + later > until:
            raise SystemFault(f"{path} was not sent: {why}", hint="Send it again later.")
        time.sleep(later)
        pause = min(2 * pause, 30.0)


def _digest(path: Path) -> dict[str, str]:
    """How long a file is and its SHA-256, as headers."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return {
        "Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
        "Content-Length": str(path.stat().st_size),
    }


def _later(answer: httpx.Response, pause: float) -> float:
    """When the service wants it again; our own pause when it does not say, or not in seconds."""
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() else pause


def _waited(
    client: httpx.Client, delivery: int, until: float, tell: Callable[[Progress], None]
) -> dict[str, Any]:
    """What became of a delivery; what is known of it when the patience is over."""
    import httpx

    row: dict[str, Any] = {}
    while True:
        try:
            answer = client.get(f"/v1/deliveries/{delivery}")
            if answer.is_success:
                row = answer.json()
                if row["state"] in _FINAL:
                    return row
                tell(Progress(f"{row['name']} ({row['state']})", 0, 0, 0, None))
            elif answer.status_code not in _LATER:
                raise SystemFault(in_words(answer))
        except httpx.TransportError:
            pass  # it is restarting; what it has accepted it still has
        if time.monotonic() > until:
            return row
        time.sleep(_LOOK_SECONDS)


def _bytes(path: Path, told: _Told) -> Iterator[bytes]:
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
            size += len(piece)
            told(path, size)


def _code(answer: httpx.Response) -> str | None:
    """The problem's code; None: it is no problem document."""
    try:
        told = answer.json()
    except ValueError:
        return None
    return str(told.get("code")) if isinstance(told, dict) else None


def in_words(answer: httpx.Response) -> str:
    """The service's own words, with its code."""
    try:
        told = answer.json()
        return f"{told['code']}: {told['detail']} {told.get('hint', '')}".strip()
    except (ValueError, KeyError, TypeError):
        return f"The service answers {answer.status_code}."


def key_header() -> dict[str, str]:
    """The API key, from NEMFLOW_API_KEY or the file that NEMFLOW_API_KEY_FILE names."""
    secret = os.environ.get("NEMFLOW_API_KEY", "").strip()
    named = os.environ.get("NEMFLOW_API_KEY_FILE")
    if not secret and named:
        try:
            secret = Path(named).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"NEMFLOW_API_KEY_FILE: {named}: {error.strerror}.") from error
    return {"Authorization": f"Bearer {secret}"} if secret else {}
