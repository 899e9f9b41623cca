"""``webhooks add``, ``list``, ``test``, ``messages``, ``retry``, ...: who is told of what happens.

Why: another system should learn of a rejected file by itself.

Promises: a secret is printed once, when the webhook is made; every act is audited; what is sent is
sent by the service, but for ``test``, which sends at once and shows the answer.

Look next: :mod:`nemflow.service.hooks`; docs/webhooks.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nemflow.cli import faults, wording
from nemflow.cli.options import DbOption, again, numbers, open_to_read, settings, who
from nemflow.cli.output import Column, CsvOption, JsonOption, Output
from nemflow.errors import MissingExtra

if TYPE_CHECKING:
    from nemflow.service.hooks import Caller
    from nemflow.settings import Settings
    from nemflow.store import Store

webhooks = typer.Typer(
    name="webhooks",
    help="Say who is told of what happens, by HTTP.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Id = Annotated[int, typer.Argument(help="The webhook's number.", metavar="ID")]
_HOOKS = (
    Column("webhook", "id", right=True, show=wording.plain, style="bold"),
    Column("state"),
    Column("url", gives_way="fold"),
    Column("events", gives_way="fold"),
    Column("sender", optional=True),
    Column("consumer", optional=True),
    Column("waiting", right=True),
    Column("delivered", right=True),
    Column("dead", right=True),
    Column("disabled_why", "why", optional=True, gives_way="fold"),
    *(Column(each, machine_only=True) for each in (
        "failures", "pause_until", "created_at", "disabled_at",
    )),
)  # fmt: skip
_MADE = (
    Column("webhook", "id", right=True, show=wording.plain),
    Column("url"),
    Column("events"),
    Column("secret"),
)
_MESSAGES = (
    Column("number", "id", right=True, show=wording.plain, style="bold"),
    Column("event"),
    Column("state"),
    Column("attempts", right=True),
    Column("last_status", "answer", right=True, show=wording.plain),
    Column("last_answer", "said", gives_way="fold"),
    Column("created_at", "made", show=wording.stamp),
    Column("next_try_at", "next try", show=wording.stamp, optional=True),
    *(Column(each, machine_only=True) for each in ("message", "last_try_at", "payload")),
)
_DONE = (Column("webhook", "id", right=True, show=wording.plain), Column("act"))


@webhooks.callback()
def tell() -> None:
    """Say who is told of what happens, by HTTP."""


@webhooks.command()
def add(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Where messages are sent.", metavar="URL")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            help="file.final, file.rejected, file.dead or consumer.changes; may be repeated; "
            "file.final if none is given.",
        ),
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--sender", help="Only of this sender's files.", metavar="ID")
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option("--consumer", help="Whose changed days to tell of.", metavar="NAME"),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Make a webhook and print its secret, once; it is told of what happens from now on."""
    from nemflow.service.hooks import checked_url
    from nemflow.store import open_store

    out = Output.choose(as_json=as_json, as_csv=as_csv)
    chosen = settings(ctx, db=db)
    checked_url(url, chosen.text("webhooks.hosts"))
    events = sorted(set(event or ["file.final"]))
    with open_store(chosen.db, pool=chosen.pool) as store:
        number, secret = store.add_webhook(
            url, events, sender=sender, consumer=consumer, key=chosen.text("webhooks.key"), by=who()
        )
    if not out.for_people:
        row = {"webhook": number, "url": url, "events": " ".join(events), "secret": secret}
        out.rows(_MADE, [row])
        return
    out.say(f"Webhook {number}: {', '.join(events)}.")
    out.command("", secret, "bold")
    out.say("It is shown this once; the receiver checks signatures with it.", "dim")
    out.command("Try it: ", again(f"webhooks test {number}", db))


@webhooks.command(name="list")
def listed(
    ctx: typer.Context,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List webhooks, and how many messages wait, were delivered or are dead."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.webhooks()
    out.rows(_HOOKS, rows, empty="No webhooks. Make one: nemflow webhooks add URL")


@webhooks.command(name="test")
def send_test(
    ctx: typer.Context,
    number: Id,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Send a message that says nothing, now, and show the answer; exit code 1 if it failed."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        made = store.test_webhook(number)
        answer = _caller(settings(ctx, db=db), store).send_now(number, made)
        rows = store.webhook_messages(number, limit=1, before=made + 1)
    if not out.for_people:
        out.rows(_MESSAGES, rows)
    elif answer.good:
        out.say(f"Delivered: {answer.status}.", "green")
    else:
        out.say(f"Not delivered: {answer.status or 'no answer'}. {answer.text}", "red")
        out.say("It is tried again while the service runs.", "dim")
    if not answer.good:
        raise typer.Exit(faults.PROBLEMS)


@webhooks.command()
def messages(
    ctx: typer.Context,
    number: Id,
    *,
    state: Annotated[
        str | None,
        typer.Option("--state", help="Only waiting, delivered or dead.", metavar="STATE"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many; 0: all.", min=0)] = 50,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List what a webhook was told, newest first: attempts, last answer, next try."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    with open_to_read(ctx, db) as store:
        rows = store.webhook_messages(number, state=state, limit=limit or None)
    out.rows(_MESSAGES, rows, empty="Nothing yet.")
    if "dead" in rows["state"].to_list():
        out.command("Send what is dead again: ", again(f"webhooks retry {number}", db))


@webhooks.command()
def retry(
    ctx: typer.Context,
    number: Id,
    *,
    message: Annotated[
        list[str] | None,
        typer.Option("--message", help="Only these: 7, or 7-12; may be repeated.", metavar="N"),
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Send dead messages again, all of them or those named."""
    out = Output.choose(as_json=as_json, as_csv=as_csv)
    which = numbers(message, "--message") if message else None
    with open_to_read(ctx, db) as store:
        done = store.retry_webhook(number, which, by=who())
    if not out.for_people:
        out.rows((*_DONE, Column("messages")), [
            {"webhook": number, "act": "retry", "messages": done}
        ])  # fmt: skip
        return
    out.say(f"Sent again: {wording.count(done, 'message')}.")


@webhooks.command()
def disable(
    ctx: typer.Context,
    number: Id,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Send nothing until it is enabled again; nothing is lost meanwhile."""
    _change(ctx, number, "disable", db, Output.choose(as_json=as_json, as_csv=as_csv))


@webhooks.command()
def enable(
    ctx: typer.Context,
    number: Id,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Send again: what waits, and what has happened meanwhile."""
    _change(ctx, number, "enable", db, Output.choose(as_json=as_json, as_csv=as_csv))


@webhooks.command()
def remove(
    ctx: typer.Context,
    number: Id,
    *,
    db: DbOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Remove a webhook for good; its messages stay listed by its number."""
    _change(ctx, number, "remove", db, Output.choose(as_json=as_json, as_csv=as_csv))


def _change(ctx: typer.Context, number: int, act: str, db: str | None, out: Output) -> None:
    with open_to_read(ctx, db) as store:
        store.change_webhook(number, act, by=who())
    if not out.for_people:
        out.rows(_DONE, [{"webhook": number, "act": act}])
        return
    out.say(f"Webhook {number}: {act}d.")


def _caller(chosen: Settings, store: Store) -> Caller:
    """What sends, by the settings."""
    try:
        from nemflow.service.hooks import Caller
    except ModuleNotFoundError as error:
        raise MissingExtra("Sending to a webhook", "service") from error
    return Caller(
        store, chosen.calling, key=chosen.text("webhooks.key"), hosts=chosen.text("webhooks.hosts")
    )
