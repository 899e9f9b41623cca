"""API keys: who may what; making one, replacing it, taking it back.

Why: who runs the service does not sit at each machine's terminal.

Promises: only ``admin`` sees or changes them, here and at the API; a secret is shown once, when it
is made, and is in no page afterwards; each act is in the audit.

Look next: ``nemflow.service.keys``; ``nemflow keys`` does the same at a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from nemflow.console import frame, parts
from nemflow.console.parts import Html
from nemflow.service.auth import SCOPES

_MEANS: Final = {
    "upload": "send files",
    "read": "look at everything",
    "operate": "retry, cancel, undo, replay, close",
    "admin": "everything, and keys",
}
_STATES: Final = {
    "live": ("good", "✓", "live"),
    "expired": ("off", "–", "expired"),
    "revoked": ("off", "✕", "revoked"),
}


@frame.page("/keys", "Keys", nav="Keys", key="k")
async def keys(view: frame.View) -> None:
    """Every key ever made, and the form for another."""
    frame.heading("Keys")
    if not view.may("admin"):
        frame.show(
            parts.alert(
                "warn",
                "Your key may not see the keys.",
                "Sign in with one that has the scope admin.",
            )
        )
        return
    frame.show(_FORM)
    await frame.live(view, "keys", 5, view.context.store.keys, _list)


def _list(found: pl.DataFrame) -> Html:
    columns = (
        parts.Column("key", "No.", lambda row: str(row["key"]), right=True),
        parts.Column("name", "Name", main=True),
        parts.Column("state", "State", lambda row: parts.mark(*_STATES[row["state"]])),
        parts.Column("scopes", "May", lambda row: row["scopes"].replace(" ", ", ")),
        parts.Column("sender", "Sends as"),
        parts.Column("created_at", "Made", lambda row: parts.stamp(row["created_at"]), minor=True),
        parts.Column(
            "expires_at", "Expires", lambda row: parts.stamp(row["expires_at"]) or "never"
        ),
        parts.Column("act", "Act", _acts),
    )
    empty = parts.nothing(
        "No keys yet: everybody at this machine may do everything.",
        "Make one above. From the first one on keys are needed, on this machine too: let it be one "
        "with admin, and sign in with it.",
    )
    return parts.panel(
        "Keys", parts.table(columns, found.to_dicts(), caption="API keys", empty=empty)
    )


def _acts(row: Mapping[str, Any]) -> Html:
    if row["state"] != "live":
        return Html("")
    number, name = row["key"], parts.text(row["name"])
    said = f"Whoever uses key {number} of {row['name']} is refused within ten seconds."
    revoke = parts.act("Revoke", f"/v1/keys/{number}/revoke", said, kind="small")
    return Html(
        f'<div class="acts"><button type="button" class="button small" data-rotate='
        f'"/v1/keys/{number}/rotate" data-confirm="Both are good until you revoke key {number} of '
        f'{name}.">Replace</button>{revoke}</div>'
    )


_BOXES: Final = "".join(
    f'<label><input type="checkbox" name="scope" value="{each}"'
    f"{' checked' if each in ('upload', 'read') else ''}> {each}: {_MEANS[each]}</label>"
    for each in SCOPES
)
_FORM: Final = Html(
    '<section class="card" aria-labelledby="h-make"><div class="card-head"><h2 id="h-make">Make a '
    'key</h2></div><form class="stack" data-make-key><div class="filters"><div>'
    '<label for="key-name">Name: whose it is</label><input id="key-name" name="name" required '
    'maxlength="64" autocomplete="off"></div><div><label for="key-sender">Files count as sent by '
    '(optional)</label><input id="key-sender" name="sender" maxlength="100" autocomplete="off">'
    '</div><div><label for="key-expires">Expires (optional)</label><input id="key-expires" '
    'name="expires" type="date"></div></div>'
    f"<fieldset><legend>It may</legend>{_BOXES}</fieldset>"
    '<div><button class="button primary" type="submit">Make it</button></div>'
    '<div id="new-key" aria-live="polite"></div></form></section>'
)
