"""The bytes of an upload, as they come: paced, counted, taken apart, hashed, written.

Why: a framework's upload object takes the whole body first and asks questions later; a sender that
trickles, lies about its length or sends for ever must cost nothing.

Promises: no more than a few hundred KiB of a body are in memory; a body that is slower than the
floor, or takes longer than the deadline, is given up; a refusal is sent while the sender still
sends, and the sender is listened to for a moment longer so that it can read it; the disk is never
touched on the event loop.

Look next: ``uploads.py``, which decides what to do with it; ``nemflow.intake.spool``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive, Scope, Send

from nemflow.intake.accepting import AcceptLimits
from nemflow.intake.spool import Landing, Spool
from nemflow.service.problems import Problem

AT_ONCE = 512 << 10  #: bytes given to a thread together
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 32 << 20
_NAME = 255
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):")
_AS_IS = frozenset({"", "7bit", "8bit", "binary"})


class Gone(Exception):
    """The sender went away: nobody is there to be answered."""


class Body:
    """One request's body; iterate it once."""

    def __init__(self, request: Request, limits: AcceptLimits) -> None:
        self._request = request
        self._limits = limits
        self.ended = False  #: all of it was read

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of about ``AT_ONCE`` bytes.

        Raises:
            Problem: E-TOO-SLOW.
            Gone: the sender went away before the end.
        """
        began = opened = time.monotonic()
        within = 0  # bytes of this window
        limits = self._limits
        held = bytearray()
        while not self.ended:
            closes = min(opened + limits.floor_seconds, began + limits.upload_seconds)
            try:
                async with asyncio.timeout(max(0.0, closes - time.monotonic())):
                    message = await self._request.receive()
            except TimeoutError:
                now = time.monotonic()
                if now >= began + limits.upload_seconds:
                    raise _too_slow(
                        f"It is not there after {limits.upload_seconds} seconds."
                    ) from None
                if within < limits.floor_bytes_per_second * limits.floor_seconds:
                    raise _too_slow(
                        f"{within:,} bytes came in {limits.floor_seconds} seconds."
                    ) from None
                opened, within = now, 0
                continue
            if message["type"] == "http.disconnect":
                raise Gone
            piece = message.get("body", b"")
            within += len(piece)
            held += piece
            self.ended = not message.get("more_body", False)
            if len(held) >= AT_ONCE:
                yield bytes(held)
                held.clear()
        if held:
            yield bytes(held)


class Parts:
    """What lands of one upload: the bytes as they are, or each file of a form.

    ``feed`` and ``end`` may block on the disk: call them in a thread, one at a time.
    """

    def __init__(self, spool: Spool, limits: AcceptLimits, opened: ExitStack) -> None:
        self._spool = spool
        self._limits = limits
        self._opened = opened
        self.files: list[tuple[str, Landing]] = []  #: name and bytes, in the order sent

    def begin(self, name: str) -> Landing:
        """The next file. Raises ``Problem`` when there are too many; SpoolFull."""
        if len(self.files) >= self._limits.files:
            raise Problem(
                "E-TOO-LARGE",
                f"An upload has at most {self._limits.files} files.",
                hint="Send several uploads, or one archive.",
            )
        landing = self._opened.enter_context(self._spool.landing())
        self.files.append((named(name), landing))
        return landing

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        raise NotImplementedError

    def end(self) -> None:
        """There are no more bytes. Raises ``Problem`` when some are missing."""
        raise NotImplementedError


class Raw(Parts):
    """A body that is the file."""

    def __init__(self, spool: Spool, limits: AcceptLimits, opened: ExitStack, name: str) -> None:
        super().__init__(spool, limits, opened)
        self._landing = self.begin(name)

    def feed(self, data: bytes) -> None:
        """Straight to the spool."""
        self._landing.write(data)

    def end(self) -> None:
        """Any length is a whole file."""


class Form(Parts):
    """A multipart/form-data body: each part with a file name is a file."""

    def __init__(
        self, spool: Spool, limits: AcceptLimits, opened: ExitStack, boundary: bytes
    ) -> None:
        super().__init__(spool, limits, opened)
        self._field = bytearray()
        self._value = bytearray()
        self._headers: dict[str, str] = {}
        self._landing: Landing | None = None
        self._whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_end": self._form_ends,
                },
            )
        except FormParserError as error:
            raise _no_form(str(error)) from error

    def feed(self, data: bytes) -> None:
        """Taken apart; the parts go straight to the spool."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _no_form(str(error)) from error

    def end(self) -> None:
        """See that the closing boundary was there, and a file."""
        if not self._whole:
            raise Problem(
                "E-LENGTH", "The form ends before its closing boundary.", hint="Send it again."
            )
        if not self.files:
            raise Problem(
                "E-REQUEST",
                "There is no file in the form.",
                hint="For example: curl -F file=@day.zip",
            )

    def _part_begins(self) -> None:
        self._headers = {}
        self._landing = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        name = self._field.decode("latin-1").lower()
        self._headers[name] = self._value.decode("utf-8", "replace")
        self._field.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        given = self._headers.get("content-disposition", "")
        # the parser's own reading of the header speaks latin-1; file names are UTF-8 by now
        raw = given.encode("utf-8", "replace").decode("latin-1")
        kind, options = parse_options_header(raw)
        name = options.get(b"filename")
        if kind != b"form-data" or name is None:
            raise Problem(
                "E-REQUEST",
                "A part of the form is no file.",
                hint="Settings of an upload are parameters: ?profile=b2b&priority=urgent.",
            )
        coding = self._headers.get("content-transfer-encoding", "").strip().lower()
        if coding not in _AS_IS:
            raise _no_form(f"parts come as they are, not in {coding[:40]!r}")
        self._landing = self.begin(name.decode("utf-8", "replace"))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._landing is not None:
            self._landing.write(memoryview(data)[start:end])

    def _part_ends(self) -> None:
        self._landing = None

    def _form_ends(self) -> None:
        self._whole = True


def parts_of(
    request: Request, spool: Spool, limits: AcceptLimits, opened: ExitStack, name: str | None
) -> Parts:
    """What a request's body is to be taken as; with a ``name``: the file itself.

    Raises:
        Problem: no form, though one is wanted.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if name is not None:
        if kind == b"multipart/form-data":
            raise Problem(
                "E-REQUEST",
                "PUT takes the bytes of one file, not a form.",
                hint="Send forms with POST /v1/deliveries; curl -T day.zip sends bytes.",
            )
        return Raw(spool, limits, opened, name)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _no_form("the Content-Type is no multipart/form-data with a boundary")
    return Form(spool, limits, opened, boundary)


class Digest:
    """Checks a body against its Content-Digest header (RFC 9530, sha-256), when there is one."""

    def __init__(self, request: Request) -> None:
        given = request.headers.get("content-digest")
        self._wanted: bytes | None = None
        if given is None:
            return
        found = _DIGEST.search(given)
        try:
            self._wanted = base64.b64decode(found[1], validate=True) if found else None
        except binascii.Error:
            self._wanted = None
        if self._wanted is None or len(self._wanted) != hashlib.sha256().digest_size:
            raise Problem(
                "E-DIGEST",
                "The Content-Digest cannot be checked.",
                hint="Send Content-Digest: sha-256=:<base64>: or leave it out.",
            )
        self._hash = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        if self._wanted is not None:
            self._hash.update(data)

    def end(self) -> None:
        """Raise ``Problem`` E-DIGEST when the body is another."""
        if self._wanted is not None and self._hash.digest() != self._wanted:
            raise Problem(
                "E-DIGEST",
                "The body that came is not the one its Content-Digest names.",
                hint="Something on the way changed it: send it again.",
            )


class Refusal(Response):
    """An answer to an upload that still comes: said at once, then listened to a moment longer.

    Closing at once would make the sender's system throw the answer away.
    """

    def __init__(self, told: Response) -> None:
        super().__init__(
            bytes(told.body), told.status_code, dict(told.headers) | {"Connection": "close"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, listen, close."""
        start: dict[str, Any] = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        heard = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while heard < _LINGER_BYTES:
                    message = await receive()
                    heard += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def named(given: str) -> str:
    """A file's name without folders and control characters, not too long."""
    last = re.split(r"[/\\]", given)[-1]
    kept = "".join(c for c in last if c.isprintable()).strip()[:_NAME]
    return kept if kept.strip(".") else "upload"


def _too_slow(why: str) -> Problem:
    return Problem("E-TOO-SLOW", f"The upload was given up: {why}", hint="Send it again.")


def _no_form(why: str) -> Problem:
    return Problem(
        "E-REQUEST",
        f"The body is no form that can be read: {why}.",
        hint="For example: curl -F file=@day.zip; or send the bytes: PUT /v1/deliveries/{name}.",
    )
