"""Who is let in: what a session of the console means to what a page asks of /v1."""

from __future__ import annotations

import asyncio

from nemflow.console import gate
from nemflow.service.auth import Keyring
from nemflow.service.context import Context


def test_a_session_can_be_asked_after_for_as_long_as_an_answer_lasts(store, monkeypatch) -> None:
    """Of an event stream a page holds open: good, until the key is revoked."""
    monkeypatch.setattr(gate, "_BELIEVED_SECONDS", -1.0)
    context = Context(store, Keyring(store.check_key, needed=True))
    sessions = gate.Sessions(context, b"s" * 32)
    key, _ = store.make_key("eyes", ["read"])

    async def asked() -> list[bool]:
        good: list[bool] = []

        async def streams(scope, _receive, _send) -> None:
            good.append(await scope["state"]["still"]())
            store.revoke_key(key.id)
            good.append(await scope["state"]["still"]())

        cookie = f"{gate.COOKIE}={sessions.begun(key.id)}"
        scope = {
            "type": "http", "method": "GET", "path": "/v1/events",
            "headers": [(b"host", b"here"), (b"cookie", cookie.encode())],
        }  # fmt: skip
        await gate.Gate(streams, context=context, sessions=sessions)(scope, None, None)
        return good

    assert asyncio.run(asked()) == [True, False]
