"""What a person should look at: found by comparing what arrives with what was current.

Why: the winner of a day is always decided, so that nobody waits; but a final substitute that
changes after all, an actual value that becomes an estimate, or two contents under one stamp are
decisions a person may want to see.

Promises: pure: frames in, frames out, set-based; what arrives in one step is taken load by load,
so each load is compared with the one before it. Nothing here changes who wins.

Spec: 5.3, 5.4, 5.6. Look next: ``review_events.py``, which keeps and lists what is found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from nemflow.store.backends.codec import STAMP
from nemflow.store.days import KEY, SORT_KEY
from nemflow.store.registers import PERIOD_KEY

#: Every kind of review event, and what it means.
KINDS: Final[Mapping[str, str]] = {
    "conflict": "two different contents carry the same version stamp",
    "final_revised": "a final substitute (F) was replaced by another content",
    "actual_to_estimate": "actual values were replaced by estimates, or by no data",
    "actual_to_substitute": "actual values of an old day were replaced by substitutes",
    "channel_missing": "a newer delivery of the day omits a stream that was delivered with it",
    "configuration_changed": "the newer version has another NMIConfiguration",
    "chain_broken": "a period starts with another read than the period before ended with",
    "period_overlap": "two current periods of one register overlap",
    "service_withdrawn": "a newer version of the day or period came without its 500 or 550",
}
#: Until the 20-week revision of the settlement calendar, corrections are routine.
AFTER_DAYS: Final = 140

#: What is compared of a day's or period's claim.
CLAIM: Final = ("version_at", "file_at", "content_hash", "load", "line", "quality",
                "nmi_configuration")  # fmt: skip
#: What is found: columns of ``review_event`` without its number and commit.
FOUND: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "load": pl.Int64, "line": pl.Int64, "kind": pl.String, "nmi": pl.String,
    "suffix": pl.String, "day": pl.Date, "register_id": pl.String, "meter_serial": pl.String,
    "period_at": STAMP, "version_at": STAMP, "content_hash": pl.String,
    "other_hash": pl.String, "other_load": pl.Int64, "before": pl.String, "after": pl.String,
    "why": pl.String,
}  # fmt: skip
REGISTER: Final = ("nmi", "suffix", "register_id", "meter_serial")


def best(claims: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The winning claim of each key."""
    if claims.is_empty():
        return claims
    order = [*SORT_KEY, "load"]
    ranked = claims.sort(order, descending=True, nulls_last=True, maintain_order=True)
    return ranked.unique(key, keep="first", maintain_order=True)


def suspects(incoming: pl.DataFrame, claimed: pl.DataFrame) -> pl.Series:
    """NMIs of which a change may have to be told, by a glance at what was ever claimed.

    An NMI is cleared when nothing was final; when nothing was actual, or only actual arrives; when
    all configurations are one; and when each stream there was arrives for each of the days.
    """
    arrives = incoming.group_by("nmi").agg(
        pl.col("day").n_unique().alias("days"),
        (pl.col("quality") != "A").any().alias("other"),
        pl.col("nmi_configuration").min().alias("from"),
        pl.col("nmi_configuration").max().alias("to"),
        pl.col("suffix").unique().alias("given"),
        pl.col("suffix").n_unique().alias("streams"),
        pl.struct("day", "suffix").n_unique().alias("stream_days"),
        pl.col("load").n_unique().alias("loads"),
    )
    known = claimed.group_by("nmi").agg(
        (pl.col("quality") == "F").any().alias("final"),
        (pl.col("quality") == "A").any().alias("actual"),
        pl.col("nmi_configuration").min().alias("least"),
        pl.col("nmi_configuration").max().alias("most"),
        pl.col("suffix").unique().alias("suffixes"),
    )
    both = arrives.join(known, on="nmi", how="inner")
    whole = pl.col("stream_days") == pl.col("days") * pl.col("streams")
    left_out = pl.col("suffixes").list.set_difference("given").list.len() > 0
    one = pl.min_horizontal("from", "least") == pl.max_horizontal("to", "most")
    odd = (
        pl.col("final")
        | (pl.col("actual") & pl.col("other"))
        | ~one.fill_null(value=True)
        | left_out
        | ~whole
        | (pl.col("loads") > 1)
    )
    return both.filter(odd)["nmi"]


def changes(
    standing: pl.DataFrame, incoming: pl.DataFrame, key: Sequence[str] = KEY
) -> pl.DataFrame:
    """Claims that become current where something stood, each next to what it replaces.

    Args:
        standing: the winner of each key before, if any: ``key`` and CLAIM.
        incoming: what arrives: ``key`` and CLAIM; loads in the order of their numbers.
        key: what names the thing claimed.

    Returns:
        Rows of ``incoming`` with ``before_<name>`` for each name of CLAIM.
    """
    wanted = [*key, *CLAIM]
    arriving = incoming.select(wanted)
    again = arriving.select(key).is_duplicated()
    if not again.any():
        return _beats(arriving, standing, key)
    single = _beats(arriving.filter(~again), standing, key)
    steps = [single]
    before = standing.select(wanted)
    for _, of_load in sorted(arriving.filter(again).partition_by("load", as_dict=True).items()):
        newest = best(of_load, key)
        steps.append(_beats(newest, before, key))
        before = best(pl.concat([before, newest]), key)
    return pl.concat(steps)


def _beats(arriving: pl.DataFrame, standing: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Arriving claims, at most one per key, that are greater than the one standing there."""
    old = standing.select(*key, **{f"before_{name}": name for name in CLAIM})
    both = arriving.join(old, on=list(key), how="inner", nulls_equal=True, maintain_order="left")
    greater, equal = pl.lit(value=False), pl.lit(value=True)
    for name in SORT_KEY:
        new, before = pl.col(name), pl.col(f"before_{name}")
        above = (new > before).fill_null(new.is_not_null() & before.is_null())
        greater, equal = greater | (equal & above), equal & new.eq_missing(before)
    return both.filter(greater)


def found(rows: pl.DataFrame, kind: str, **columns: Any) -> pl.DataFrame:
    """Rows as events of a kind; what is not given is null."""
    if rows.is_empty():
        return pl.DataFrame(schema=FOUND)
    given = rows.with_columns(kind=pl.lit(kind), **columns)
    return given.select(
        (pl.col(name) if name in given.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in FOUND.items()
    )


def of_changes(changed: pl.DataFrame, today: date, after_days: int) -> pl.DataFrame:
    """Events that a change of the current version is, by quality and configuration.

    ``changed`` as :func:`changes` gives it; with ``day`` (of a period: when it ends).
    """
    if changed.is_empty():
        return pl.DataFrame(schema=FOUND)
    old, new = pl.col("before_quality"), pl.col("quality")
    differs = pl.col("content_hash") != pl.col("before_content_hash")
    seen = {"other_hash": pl.col("before_content_hash"), "other_load": pl.col("before_load")}
    quality = seen | {"before": old, "after": new}
    was_actual = differs & (old == "A")
    long_ago = pl.col("day") < today - timedelta(days=after_days)
    had, has = pl.col("before_nmi_configuration"), pl.col("nmi_configuration")
    gone = _pairs(had).list.set_difference(_pairs(has)).list.sort().list.join(", ")
    return pl.concat(
        [
            found(changed.filter(differs & (old == "F")), "final_revised", **quality),
            found(changed.filter(was_actual & new.is_in(["E", "N"])), "actual_to_estimate",
                  **quality),
            found(changed.filter(was_actual & new.is_in(["S", "F"]) & long_ago),
                  "actual_to_substitute", **quality,
                  why=pl.lit(f"the day was over for more than {after_days} days")),
            found(changed.filter(had != has), "configuration_changed", **seen, before=had,
                  after=has, why=pl.when(gone != "").then(pl.format("{} withdrawn", gone))),
        ]
    )  # fmt: skip


def _pairs(configuration: pl.Expr) -> pl.Expr:
    return configuration.str.extract_all("..")


def missing_channels(
    changed: pl.DataFrame, standing: pl.DataFrame, incoming: pl.DataFrame
) -> pl.DataFrame:
    """Streams that were delivered together with a day now replaced, and are left out now.

    ``standing`` holds the winners of all suffixes of the NMI-days; ``incoming`` all that the loads
    have claimed of them.
    """
    if changed.is_empty():
        return pl.DataFrame(schema=FOUND)
    others = standing.select(
        "nmi", "day", other="suffix", before_load="load", other_hash="content_hash"
    )
    together = (
        changed.select("nmi", "day", "load", "line", "version_at", "before_load", given="suffix")
        .join(others, on=["nmi", "day", "before_load"], how="inner", maintain_order="left")
        .rename({"other": "suffix", "before_load": "other_load"})
        .join(incoming, on=["nmi", "day", "suffix", "load"], how="anti", maintain_order="left")
        .unique(["nmi", "day", "suffix", "load"], keep="first", maintain_order=True)
    )
    why = pl.format("delivered together with {} before; its older version stays current", "given")
    return found(together, "channel_missing", why=why)


def conflicts(
    incoming: pl.DataFrame, claims: pl.DataFrame, key: Sequence[str] = KEY
) -> pl.DataFrame:
    """Each incoming claim whose stamp another, earlier content carries too, with the greatest.

    Args:
        incoming: the claims judged to be in conflict: ``key``, SORT_KEY, load, line.
        claims: all claims there are on these keys, ours included, with ``state`` of their load.
        key: what names the thing claimed.
    """
    if incoming.is_empty():
        return pl.DataFrame(schema=FOUND)
    own = incoming["load"].unique().to_list()
    counts = (pl.col("state") == "published") | pl.col("load").is_in(own)
    others = (
        claims.filter(counts)
        .select(*key, "version_at", other_file_at="file_at", other_hash="content_hash",
                other_load="load")
    )  # fmt: skip
    pairs = incoming.join(others, on=[*key, "version_at"], how="inner", nulls_equal=True)
    earlier = (pl.col("other_load") < pl.col("load")) | ~pl.col("other_load").is_in(own)
    said = (  # the same content under the same stamp: told of when it came first
        pairs.filter((pl.col("content_hash") == pl.col("other_hash")) & earlier)
        .select(*key, "version_at", "load", "content_hash")
        .unique()
    )
    pairs = pairs.join(said, on=said.columns, how="anti", nulls_equal=True)
    pairs = pairs.filter((pl.col("content_hash") != pl.col("other_hash")) & earlier).sort(
        "other_file_at", "other_hash", "other_load", descending=True, nulls_last=True
    )
    pairs = pairs.unique([*key, "version_at", "load", "content_hash"], keep="first")
    return decided(pairs.sort("load", "line"))


def decided(pairs: pl.DataFrame) -> pl.DataFrame:
    """Conflicting pairs as events that say which content wins, and why."""
    mine, theirs = pl.col("file_at"), pl.col("other_file_at")
    later = (mine > theirs).fill_null(mine.is_not_null() & theirs.is_null())
    same = mine.eq_missing(theirs)
    wins = later | (same & (pl.col("content_hash") > pl.col("other_hash")))
    winner = pl.when(wins).then("content_hash").otherwise("other_hash").str.head(12)
    reason = (
        pl.when(same)
        .then(pl.lit("both files have the same DateTime, so the greater content hash decides"))
        .otherwise(pl.lit("its file's DateTime is later"))
    )
    return found(
        pairs,
        "conflict",
        before=pl.col("other_hash").str.head(12),
        after=pl.col("content_hash").str.head(12),
        why=pl.format("{} wins: {}", winner, reason),
    )


def as_claims(reads: pl.DataFrame) -> pl.DataFrame:
    """Register reads with the columns that days are compared by."""
    return reads.with_columns(
        quality=pl.col("current_quality_method").str.head(1),
        day=pl.col("current_at").dt.date(),
        period_at="previous_at",
    )


def chain_faults(claims: pl.DataFrame, own: Collection[int] | None = None) -> pl.DataFrame:
    """Neighbouring current periods of a register that do not fit together (5.6).

    Args:
        claims: the claims of whole registers, as :func:`as_claims` gives them.
        own: only faults with a period of these loads; None: all.
    """
    if claims.is_empty():
        return pl.DataFrame(schema=FOUND)
    current = best(claims, PERIOD_KEY).filter(pl.col("previous_at").is_not_null())
    chain = current.sort(*REGISTER, "previous_at", "current_at", maintain_order=True)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in REGISTER)
    last = {
        f"last_{name}": pl.when(same).then(pl.col(name).shift(1))
        for name in ("previous_at", "current_at", "current_read", "content_hash", "load", "line")
    }
    chain = chain.with_columns(**last)
    if own is not None:
        mine = list(own)
        chain = chain.filter(pl.col("load").is_in(mine) | pl.col("last_load").is_in(mine))
        # the event is of the load that brought the fault: ours, and the later of two of ours
        theirs = ~pl.col("load").is_in(mine) | (
            pl.col("last_load").is_in(mine) & (pl.col("last_load") > pl.col("load"))
        )
        chain = chain.with_columns(
            load=pl.when(theirs).then("last_load").otherwise("load"),
            line=pl.when(theirs).then("last_line").otherwise("line"),
            last_load=pl.when(theirs).then("load").otherwise("last_load"),
        )
    meets = pl.col("last_current_at") == pl.col("previous_at")
    broken = meets & (pl.col("last_current_read") != pl.col("previous_read"))
    overlaps = pl.col("last_current_at") > pl.col("previous_at")
    seen = {"other_hash": pl.col("last_content_hash"), "other_load": pl.col("last_load")}
    day = pl.col("previous_at").dt.date()

    def span(first: str, last: str) -> pl.Expr:
        since, until = (pl.col(name).dt.strftime("%Y-%m-%d %H:%M") for name in (first, last))
        return since + " to " + until

    return pl.concat(
        [
            found(chain.filter(broken), "chain_broken", **seen, day=day,
                  before=pl.col("last_current_read"), after=pl.col("previous_read"),
                  why=pl.lit("a read was issued anew; the other of the two periods should follow")),
            found(chain.filter(overlaps), "period_overlap", **seen, day=day,
                  before=span("last_previous_at", "last_current_at"),
                  after=span("previous_at", "current_at")),
        ]
    )  # fmt: skip


def withdrawn_services(
    changed: pl.DataFrame, services: pl.DataFrame, arriving: pl.DataFrame
) -> pl.DataFrame:
    """500s and 550s whose day or period was replaced by a version that comes without them.

    Args:
        changed: as :func:`changes` gives it.
        services: service events of what was replaced: load, parent_line and what they say.
        arriving: the same of what arrives.
    """
    if changed.is_empty() or services.is_empty():
        return pl.DataFrame(schema=FOUND)
    told = ["record", "trans_code", "service_order"]
    lost = changed.join(
        services.select(*told, before_load="load", before_line="parent_line"),
        on=["before_load", "before_line"],
        how="inner",
    )
    kept = arriving.select(*told, load="load", line="parent_line")
    lost = lost.join(kept, on=["load", "line", *told], how="anti", nulls_equal=True)
    lost = lost.unique(["load", "line", *told], keep="first", maintain_order=True)
    said = pl.concat_str(pl.col(told).cast(pl.String), separator=" ", ignore_nulls=True)
    return found(
        lost,
        "service_withdrawn",
        other_hash=pl.col("before_content_hash"),
        other_load=pl.col("before_load"),
        before=said,
    )
