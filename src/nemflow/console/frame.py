"""The frame of every page: navigation, title, light and dark, keys, live parts.

Why: what is right once (language, headings, focus, contrast, signing in, errors in words) is right
on every page; a page says only what it shows.

Adding a page: write a module with::

    @frame.page("/quarantine", "Quarantine", nav="Quarantine", key="q")
    async def quarantine(view: frame.View) -> None:
        await frame.live(view, "quarantine", 5, lambda: view.context.store.quarantine(), _shown)

and name it in ``_PAGES``. ``frame.live`` asks in a thread, shows what ``_shown`` makes of the
answer (``parts.Html``) and renews it; ``frame.show`` shows HTML once; ``view.query`` are the
address's parameters, ``view.path`` its placeholders. Acts are buttons (``parts.act``) that POST to
the API, where the scope is asked for again; show them only when ``view.may("operate")``.

Promises: nobody sees a page without being let in by ``gate.py``; an error of the store is shown in
its own words with what to do; a part is sent to the browser only when it changed.

Look next: ``parts.py``, ``live.py``; ``overview.py`` as an example.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import FastAPI, Request
from nicegui import app as nicegui_app
from nicegui import core, ui

from nemflow.console import gate
from nemflow.console.live import Shared
from nemflow.console.parts import Html, alert, text
from nemflow.errors import NemflowError, NotFound

if TYPE_CHECKING:
    from nemflow.service.auth import Caller
    from nemflow.service.context import Context

T = TypeVar("T")
log = logging.getLogger("nemflow.console")
#: The modules whose pages are shown, in the order of the navigation.
_PAGES: Final = (
    "overview", "files", "delivery", "nmis", "nmi", "problems", "dead", "quarantine", "changes",
    "audit", "keys", "settings",
)  # fmt: skip
_STATIC: Final = Path(__file__).with_name("static")
_OWN: Final = f"{gate.ROOT}/own"
LANGUAGE: Final = "en-GB"
_AGAIN: Final = 5.0  #: seconds after which it is asked again whether one may look


@dataclass(frozen=True, slots=True)
class View:
    """Who looks at what."""

    context: Context
    caller: Caller
    shared: Shared
    path: Mapping[str, str]  #: placeholders of the address
    query: Mapping[str, str]  #: parameters of the address, the last of each name
    many: Mapping[str, list[str]]  #: all of them
    settings: Sequence[Mapping[str, Any]] = ()  #: rows of ``nemflow config show``
    cookie: str = ""  #: of the session
    ended: asyncio.Event = field(default_factory=asyncio.Event)  #: nothing more is shown

    def may(self, scope: str) -> bool:
        """Whether the caller may; the API asks again when it is done."""
        return self.caller.may(scope)


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    title: str
    nav: str
    key: str
    module: str  #: whose place in ``_PAGES`` is its place in the navigation


_entries: list[_Entry] = []
_state: dict[str, Any] = {}
Build = Callable[[View], Awaitable[None]]


def page(path: str, title: str, *, nav: str = "", key: str = "") -> Callable[[Build], Build]:
    """A page of the console.

    Args:
        path: below ``/console``; ``{number}`` is a placeholder, see ``View.path``.
        title: of the window, and the heading unless ``heading`` is called.
        nav: its word in the navigation; "": not in it.
        key: the letter that leads to it after ``g``.
    """

    def register(build: Build) -> Build:
        entry = _Entry(path, title, nav, key, build.__module__.rpartition(".")[2])
        _entries.append(entry)

        @ui.page(path, title=f"{title} · nemflow", response_timeout=20.0)
        async def shown(request: Request) -> None:
            await _shown(entry, build, request)

        return build

    return register


def put_on(
    app: FastAPI,
    context: Context,
    secret_file: Path | None,
    settings: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Everything the console needs on the application; see ``console.mount``."""
    _state.update(context=context, shared=Shared(), settings=settings)
    _state["sessions"] = gate.Sessions(context, gate.secret_in(secret_file))
    for name in _PAGES:
        importlib.import_module(f"nemflow.console.{name}")
    _entries.sort(key=lambda each: _PAGES.index(each.module))
    nicegui_app.add_static_files("/own", str(_STATIC))
    core.app.config.socket_io_js_transports = ["websocket"]
    core.sio.eio.cors_allowed_origins = []
    ui.run_with(
        app,
        mount_path=gate.ROOT,
        title="nemflow",
        language=LANGUAGE,
        favicon=_STATIC / "mark.svg",
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=10.0,
    )
    app.add_middleware(gate.Gate, context=context, sessions=_state["sessions"])


async def _shown(entry: _Entry, build: Build, request: Request) -> None:
    """The frame with the page in it."""
    view = View(
        _state["context"],
        request.state.signed_in,
        _state["shared"],
        dict(request.path_params),
        dict(request.query_params),
        {name: request.query_params.getlist(name) for name in request.query_params},
        _state["settings"],
        request.cookies.get(gate.COOKIE, ""),
    )
    ui.add_head_html(_HEAD)
    ui.add_body_html(_top(entry, view))
    ui.on("renew", _forget)
    _guard(view)
    try:
        await build(view)
    except NotFound as error:
        heading("Not found")
        show(alert("warn", error.message, error.hint))
    except NemflowError as error:
        heading("Not now")
        show(alert("bad", error.message, error.hint))
        show(Html('<p class="muted">The page is tried again every few seconds.</p>'))
        ui.timer(_AGAIN, ui.navigate.reload, immediate=False)


def _guard(view: View) -> None:
    """Leads to the sign-in page when who looks would not be let in any more."""
    sessions: gate.Sessions = _state["sessions"]

    async def look() -> None:
        try:
            if view.ended.is_set() or await sessions.still(view.caller, view.cookie):
                return
        except NemflowError:
            return  # who is asked about it is away: nothing new is shown meanwhile
        view.ended.set()
        ui.navigate.reload()

    ui.timer(_AGAIN, look, immediate=False)


def _forget() -> None:
    shared: Shared = _state["shared"]
    shared.forget()


def heading(title: str, *, below: Html = Html(""), acts: Html = Html("")) -> None:  # noqa: B008
    """The page's heading, once; what is below it, and the buttons beside it."""
    page_title(title)
    show(
        Html(
            f'<div class="page-head"><div><h1 id="content" tabindex="-1">{text(title)}</h1>'
            f'{below}</div><div class="acts">{acts}</div></div>'
        )
    )


def page_title(title: str) -> None:
    """The window's title, for a page that makes its own heading."""
    ui.page_title(f"{title} · nemflow")


def show(html: Html) -> ui.html:
    """HTML, as it is; returns the element, whose ``set_content`` shows another."""
    return ui.html(html, sanitize=False)


async def live(
    view: View,
    key: Hashable,
    seconds: float,
    ask: Callable[[], T],
    shown: Callable[[T], Html],
) -> ui.html:
    """A part of the page that renews itself.

    Args:
        view: who looks.
        key: what is asked; equal keys share one answer, so it must name everything the answer
            depends on.
        seconds: how old an answer may be, and how often it is renewed.
        ask: asks the store; runs in a thread.
        shown: makes HTML of the answer; runs in a thread too, for a long list takes its time.

    Raises:
        NemflowError: the first answer could not be had.
    """
    answer = await view.shared.get(key, seconds, ask)
    element = show(await asyncio.to_thread(shown, answer))
    renewed = seconds

    async def renew() -> None:
        if view.ended.is_set():
            return
        try:
            answer = await view.shared.get(key, renewed, ask)
            content = await asyncio.to_thread(shown, answer)
        except NemflowError as error:
            content = alert("bad", error.message, error.hint)
        if content != element.content:
            element.set_content(content)

    ui.timer(seconds, renew, immediate=False)
    ui.on("renew", renew)
    return element


def _top(here: _Entry, view: View) -> str:
    """The skip link, the header, and the list of keys: outside of what is live."""
    links = "".join(
        f'<a href="{gate.ROOT}{each.path}" data-key="{each.key}"{_current(each, here)}>'
        f"{escape(each.nav)}</a>"
        for each in _entries
        if each.nav
    )
    who = ""
    if view.caller.key is not None:
        role = "may operate" if view.may("operate") else "may look"
        who = (
            f'<span class="who" title="{role}">{escape(view.caller.name)}</span>'
            f'<form method="post" action="{gate.SIGN_OUT}"><button class="quiet">Sign out</button>'
            "</form>"
        )
    keys = "".join(
        f"<div><dt><kbd>g</kbd> <kbd>{each.key}</kbd></dt><dd>{escape(each.nav)}</dd></div>"
        for each in _entries
        if each.nav and each.key
    )
    return f"""<a class="skip" href="#content">Skip to the content</a>
<header class="top"><a class="brand" href="{gate.ROOT}/">nemflow</a>
<nav aria-label="Main">{links}</nav><div class="tools">
<button class="quiet" data-theme-switch aria-label="Light or dark">◐</button>
<button class="quiet" data-keys aria-label="Keyboard shortcuts">?</button>{who}</div></header>
<dialog id="keys" aria-labelledby="keys-title"><h2 id="keys-title">Keyboard shortcuts</h2>
<dl class="keys">{keys}<div><dt><kbd>/</kbd></dt><dd>Search</dd></div>
<div><dt><kbd>t</kbd></dt><dd>Light or dark</dd></div>
<div><dt><kbd>?</kbd></dt><dd>This list</dd></div>
<div><dt><kbd>Esc</kbd></dt><dd>Close</dd></div></dl>
<form method="dialog"><button class="button">Close</button></form></dialog>
<dialog id="ask" aria-labelledby="ask-title"><h2 id="ask-title">Sure?</h2>
<div id="ask-body"></div><div class="acts"><button class="button" data-no>Leave it</button>
<button class="button primary" data-yes>Do it</button></div></dialog>
<div id="said" role="status" aria-live="polite"></div>"""


def _current(each: _Entry, here: _Entry) -> str:
    """Marks where we are; a delivery's page belongs to the files."""
    path = "/files" if here.path.startswith("/deliveries") else here.path
    first = path.split("/")[1]
    return ' aria-current="page"' if each.path.split("/")[1] == first else ""


_HEAD: Final = (
    f'<link rel="stylesheet" href="{_OWN}/console.css"><script src="{_OWN}/theme.js"></script>'
    f'<link rel="stylesheet" href="{_OWN}/pages.css">'
    f'<script defer src="{_OWN}/console.js"></script>'
    f'<script defer src="{_OWN}/pages.js"></script>'
)
