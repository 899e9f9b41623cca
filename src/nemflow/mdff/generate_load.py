"""What a believable household uses and feeds in, interval by interval.

Why: tests, demos and measurements need data that looks like meters, in any amount, and the
same data everywhere.

Promise: whole numbers from end to end (no sine, no float, no random module), so a seed gives
the same values on every machine; a day's values depend on the seed, the meter's number and
the date, never on what else is generated with it. Millions of readings a second.

Where next: ``generate.py`` puts the values into records; ``docs/generate.md`` shows a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from nemflow.errors import UsageError

_EPOCH_MONDAY: Final = 4  # 1970-01-05 was a Monday, day number 4
_WARMTH_STEPS: Final = 11


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a data stream measures and how it is written."""

    quantity: str  #: import, export, controlled, reactive, reactive_export, apparent, pf, volts
    uom: str  #: canonical spelling, spec §3.4
    decimals: int  #: the most the unit allows


_KINDS: Final[Mapping[str, Recipe]] = {
    "AC": Recipe("export", "kWh", 4),
    "B": Recipe("export", "kWh", 4),
    "DEFN": Recipe("import", "kWh", 4),
    "PQRX": Recipe("reactive", "kVArh", 4),
    "JKL": Recipe("reactive_export", "kVArh", 4),
    "STU": Recipe("apparent", "kVAh", 4),
    "G": Recipe("pf", "pf", 3),
    "V": Recipe("volts", "V", 1),
}
_BY_LETTER: Final = {letter: recipe for letters, recipe in _KINDS.items() for letter in letters}
_CONTROLLED: Final = Recipe("controlled", "kWh", 4)


def recipe(suffix: str) -> Recipe:
    """Give the recipe of an interval data stream, e.g. ``E1``.

    Raises:
        UsageError: no recipe for that suffix.
    """
    known = len(suffix) == 2 and suffix[0] in _BY_LETTER and suffix[1] in "123456789"
    if not known:
        message = f"There is no profile for the data stream {suffix!r}."
        letters = ", ".join(sorted(_BY_LETTER))
        raise UsageError(message, hint=f"Use one of the letters {letters} and a digit 1 to 9.")
    return _CONTROLLED if suffix == "E2" else _BY_LETTER[suffix[0]]


# --- randomness by whole numbers ---------------------------------------------------------------


def u64(value: int) -> pl.Expr:
    """Give a literal of 64 bits."""
    return pl.lit(value % 2**64, dtype=pl.UInt64)


def mixed(key: pl.Expr) -> pl.Expr:
    """Scatter a 64-bit key so that each bit of it moves about half of the result's bits."""
    key = key * u64(0x9E3779B97F4A7C15)
    key = (key ^ (key // u64(2**32))) * u64(0xD6E8FEB86659FD93)
    return key ^ (key // u64(2**29))


def bits(key: pl.Expr, low: int, size: int) -> pl.Expr:
    """Take a number 0 ... size-1 from a scattered key; ``low`` is where to look in it."""
    return ((key // u64(2**low)) % u64(size)).cast(pl.Int32)


def day_key(seed: int, meter: pl.Expr, day: pl.Expr, salt: int) -> pl.Expr:
    """Give the key of a meter's day; ``day`` counts from 1970."""
    start = u64((seed * 0x2545F4914F6CDD1D + salt * 0x9E3779B9) ^ 0x5851F42D4C957F2D)
    key = mixed(start + meter.cast(pl.UInt64))
    return mixed(key + day.cast(pl.Int64).cast(pl.UInt64, wrap_numerical=True))


# --- shapes ------------------------------------------------------------------------------------


def _bump(minute: pl.Expr, centre: int, width: int) -> pl.Expr:
    """Give a smooth hill of height 1000 around ``centre``, zero beyond ``width`` minutes."""
    away = (minute - centre).abs()
    rest = pl.max_horizontal(pl.lit(0, dtype=pl.Int64), width * width - away * away)
    return rest * rest * 1000 // (width**4)


def _load_curves(minutes: int) -> pl.Series:
    """Watts of a plain household: warmth step, then working day or weekend, then interval."""
    slots = 1440 // minutes
    at = pl.int_range(_WARMTH_STEPS * 2 * slots, dtype=pl.Int64)
    warmth = at // (2 * slots) * (1000 // (_WARMTH_STEPS - 1))
    weekend = at // slots % 2 == 1
    minute = at % slots * minutes + minutes // 2
    cold = pl.max_horizontal(pl.lit(0, dtype=pl.Int64), 600 - warmth)
    hot = pl.max_horizontal(pl.lit(0, dtype=pl.Int64), warmth - 650)
    morning = pl.when(weekend).then(_bump(minute, 560, 170)).otherwise(_bump(minute, 435, 105))
    evening = _bump(minute, 1130, 220)
    midday = pl.when(weekend).then(_bump(minute, 800, 300)).otherwise(_bump(minute, 780, 260) // 3)
    watts = (
        140
        + morning * (650 + cold) // 1000
        + evening * (1250 + cold) // 1000
        + midday * 380 // 1000
        + hot * _bump(minute, 990, 330) * 4 // 1000
    )
    return pl.select(watts.cast(pl.Int32).alias("w")).to_series()


def _sun_curves(minutes: int) -> pl.Series:
    """Per mille of a solar system's size under a clear sky: warmth step, then interval."""
    slots = 1440 // minutes
    at = pl.int_range(_WARMTH_STEPS * slots, dtype=pl.Int64)
    warmth = at // slots * (1000 // (_WARMTH_STEPS - 1))
    away = (at % slots * minutes + minutes // 2 - 725).abs()
    half = 290 + warmth * 140 // 1000  # half the day's length: 4 h 50 in winter, 7 h 10 in summer
    rest = pl.max_horizontal(pl.lit(0, dtype=pl.Int64), half * half - away * away)
    bell = rest * 1000 // (half * half)
    return pl.select(
        (bell * bell // 1000 * (560 + warmth * 270 // 1000) // 1000).cast(pl.Int32).alias("w")
    )["w"]


class Curves:
    """The shape tables of one interval length, made once and looked up ever after."""

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self.slots = 1440 // minutes
        self.load = _load_curves(minutes)
        self.sun = _sun_curves(minutes)


# --- values ------------------------------------------------------------------------------------


def meter_days(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Add to ``meter`` and ``day`` what holds for the whole day: household, season, sky."""
    meter, day = pl.col("meter"), pl.col("day").cast(pl.Int64)
    none = pl.lit(0, dtype=pl.Int64)
    into_year = (pl.col("day").dt.ordinal_day().cast(pl.Int64) + 10) % 366  # from 21 December
    far = pl.min_horizontal(into_year, 366 - into_year) * 1000 // 183
    warmth = 1000 - far * far * (3000 - 2 * far) // 1_000_000
    home = mixed(u64(seed * 31 + 7) + mixed(meter.cast(pl.UInt64)))
    sky = day_key(seed, none, day, 1)
    clear = bits(sky, 10, 100)
    return rows.with_columns(
        step=((warmth + 50) // 100),
        weekend=((day - _EPOCH_MONDAY) % 7 >= 5).cast(pl.Int64),
        size=550 + bits(home, 3, 1100),
        base=20 + bits(home, 13, 160),
        wake=bits(home, 23, 91) - 45,
        solar=2500 + bits(home, 33, 75) * 100,
        night=(1350 + bits(home, 43, 120)),
        # A clear day is bright and steady, a mixed one bright and ragged, a dull one dark.
        bright=pl.when(clear < 55).then(960).when(clear < 82).then(850).otherwise(330),
        ragged=pl.when(clear < 55).then(40).when(clear < 82).then(620).otherwise(200),
        key=day_key(seed, meter, day, 2),
        odd=day_key(seed, meter, day, 3),
    )


def values(
    days: pl.DataFrame, suffix: str, curves: Curves, decimals: int, *, with_solar: bool
) -> pl.Series:
    """Give each day's readings as integers that count 10 to the minus ``decimals``.

    Args:
        days: what ``meter_days`` gave, plus ``smooth_from`` and ``smooth_to``: the 1-based
            intervals that are estimates, which know no noise (0 and 0 for none).
        suffix: the data stream; ``recipe`` says what it measures.
        curves: the tables of the days' interval length.
        decimals: of the values written.
        with_solar: the site feeds in, so its own use lowers both E and B.

    Returns:
        List(Int64), 1440 / length values per day in time order, none negative.
    """
    slots, minutes = curves.slots, curves.minutes
    per_day = days.select(
        "key",
        *_WHOLE_DAY,
        load_at=(pl.col("step") * 2 + pl.col("weekend")) * slots,
        sun_at=pl.col("step") * slots,
        shift=slots - pl.col("wake") // minutes,
        heating=90 + (10 - pl.col("step")) * 18 + bits(pl.col("odd"), 20, 40),
        smooth_from=pl.col("smooth_from").cast(pl.Int64) - 1,
        smooth_to=pl.col("smooth_to").cast(pl.Int64) - 1,
    ).cast({pl.Int64: pl.Int32})
    place = pl.int_range(days.height * slots, dtype=pl.UInt32, eager=True) // slots
    readings = (
        per_day.lazy()
        .select(pl.all().gather(place))
        .with_columns(slot=pl.int_range(pl.len(), dtype=pl.Int32) % slots)
        .with_columns(noise=mixed(pl.col("key") + pl.col("slot").cast(pl.UInt64)))
        .with_columns(load=_load(curves), sun=_sun(curves))
        .select(_counted(recipe(suffix), minutes, decimals, with_solar=with_solar).alias("value"))
        .collect()
    )
    return readings["value"].reshape((days.height, slots)).arr.to_list()


_WHOLE_DAY: Final = ("size", "base", "solar", "night", "bright", "ragged")


def _load(curves: Curves) -> pl.Expr:
    """Watts used: the household's curve, noise, and now and then an appliance."""
    noise, slot = pl.col("noise"), pl.col("slot")
    place = pl.col("load_at") + (slot + pl.col("shift")) % curves.slots
    plain = pl.lit(curves.load).gather(place) * pl.col("size") // 1000 + pl.col("base")
    appliance = (
        pl.when(bits(noise, 16, 240 // curves.minutes) == 0)
        .then((900 + bits(noise, 24, 1500)) * 7 // (curves.minutes + 2))
        .otherwise(0)
    )
    lively = plain * (720 + bits(noise, 4, 560)) // 1000 + appliance
    estimated = slot.is_between("smooth_from", "smooth_to")
    return pl.when(estimated).then(plain).otherwise(lively)


def _sun(curves: Curves) -> pl.Expr:
    """Watts made: the season's bell for the system's size, under the day's sky."""
    clear = pl.lit(curves.sun).gather(pl.col("sun_at") + pl.col("slot")) * pl.col("solar") // 1000
    cloud = pl.col("bright") - pl.col("ragged") * bits(pl.col("noise"), 36, 1000) // 1000
    return clear * cloud // 1000


def _counted(what: Recipe, minutes: int, decimals: int, *, with_solar: bool) -> pl.Expr:
    """Turn watts into the stream's quantity over one interval, as a whole number."""
    load, sun, noise = pl.col("load"), pl.col("sun"), pl.col("noise")
    unit: int = 10**decimals
    nothing = pl.lit(0, dtype=pl.Int32)
    if what.quantity == "pf":
        return (900 + bits(noise, 40, 100)) * unit // 1000
    if what.quantity == "volts":
        return (2350 + bits(noise, 40, 120)) * unit // 10
    on = (pl.col("slot") * minutes - pl.col("night")) % 1440 < pl.col("heating")
    watts = {
        "import": pl.max_horizontal(nothing, load - sun) if with_solar else load,
        "export": pl.max_horizontal(nothing, sun - load),
        "controlled": pl.when(on).then(3600 - bits(noise, 4, 80)).otherwise(0),
        "reactive": load * 180 // 1000 + 25,
        "reactive_export": sun * 60 // 1000,
        "apparent": load + load * 15 // 1000 + 10,
    }[what.quantity]
    return watts.cast(pl.Int64) * (minutes * unit) // 60_000
