"""The console: one page that says what is wrong, why, and which button mends it.

Why: at 3 a.m. the person on call has a browser and a minute.

Promises: everything is served by this process, nothing is fetched from elsewhere; pages show what
the ledger says, in the words of the command line; what a page does, it does through the same
endpoints as every program, so the same scopes hold; the store is asked off the event loop, and
once for all who look at the same page.

Look next: ``frame.py`` for how a page is added, ``gate.py`` for who is let in, ``parts.py`` for
what pages are made of. docs/console.md is the tour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fastapi import FastAPI

    from nemflow.service.context import Context

__all__ = ["mount"]


def mount(
    app: FastAPI,
    context: Context,
    *,
    secret_file: Path | None = None,
    settings: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Put the console on the application, under ``/console``; once in a process.

    Args:
        app: the service's application; it must be served with a lifespan and websockets.
        context: what the pages use.
        secret_file: where the secret that signs sessions is kept, made when it is not there;
            None: a new one, so that everybody signs in again after a restart.
        settings: rows of ``nemflow config show``, masked, for the page that shows them.

    Raises:
        MissingExtra: NiceGUI is not installed.
        SystemFault: the secret cannot be kept.
    """
    from nemflow.errors import MissingExtra

    try:
        import nicegui  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("The console", "console") from error
    from nemflow.console.frame import put_on

    put_on(app, context, secret_file, settings)
