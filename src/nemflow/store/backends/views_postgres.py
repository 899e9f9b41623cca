"""The views and the function that psql, Grafana and BI tools query.

Why: the same two views as the embedded store, in PostgreSQL's own terms: ``value`` is ``numeric``,
instants are ``timestamptz``, and ``meter_readings(nmi, from, to)`` answers a time slice by days, so
that partitions are pruned.

Promises: only published loads are seen; filters on nmi, suffix and day reach the key index and
prune partitions through both views.

Look next: ``views.py`` for the embedded store's spelling of the same.
"""

from __future__ import annotations

_WINNER = """
    SELECT c.*, l.file,
           row_number() OVER (
             PARTITION BY c.nmi, c.day, c.suffix
             ORDER BY c.version_at DESC NULLS LAST, c.file_at DESC NULLS LAST,
                      c.content_hash DESC, c.load DESC
           ) AS place
    FROM day_claim AS c JOIN load AS l ON l.id = c.load
    WHERE l.state = 'published'
"""

_CURRENT_DAY = f"""
CREATE VIEW current_day AS
SELECT w.nmi, w.day, w.suffix, d.uom, d.interval_minutes, d.scale, d.scaled_values,
       d.exact_values, w.total, w.missing, w.quality AS weakest, d.quality, d.method,
       d.reason_code, d.reason_text, d.spans, w.version_at, w.version_derived, w.file_at,
       w.content_hash, w.register_id, w.meter_serial, w.mdm_stream, w.nmi_configuration,
       w.next_scheduled_read, w.msats_at, w.load, w.file AS file_id, w.line
FROM ({_WINNER}) AS w
CROSS JOIN LATERAL (
  SELECT e.* FROM day_content AS e
  WHERE e.nmi = w.nmi AND e.day = w.day AND e.suffix = w.suffix
    AND e.content_hash = w.content_hash
  LIMIT 1) AS d
WHERE w.place = 1
"""  # noqa: S608 - no outside text

_INTERVALS = """
SELECT c.nmi, c.suffix, c.day,
       (c.day::timestamp AT TIME ZONE 'Etc/GMT-10')
         + (v.place - 1) * c.interval_minutes * interval '1 minute' AS interval_start,
       (c.day::timestamp AT TIME ZONE 'Etc/GMT-10')
         + v.place * c.interval_minutes * interval '1 minute' AS interval_end,
       v.value, c.uom,
       CASE WHEN s.span IS NULL THEN c.quality ELSE s.span ->> 2 END AS quality,
       CASE WHEN s.span IS NULL THEN c.method ELSE s.span ->> 3 END AS method,
       CASE WHEN s.span IS NULL THEN c.reason_code ELSE (s.span ->> 4)::integer END AS reason_code,
       CASE WHEN s.span IS NULL THEN c.reason_text ELSE s.span ->> 5 END AS reason_text,
       c.register_id, c.meter_serial, c.version_at, c.file_at, c.file_id
FROM current_day AS c
CROSS JOIN LATERAL (SELECT ('1e-' || c.scale)::numeric AS factor) AS f
CROSS JOIN LATERAL (
  SELECT i.place,
         i.value * f.factor AS value
  FROM unnest(c.scaled_values) WITH ORDINALITY AS i(value, place)
  UNION ALL
  SELECT e.place, e.value::numeric
  FROM json_array_elements_text(c.exact_values::json) WITH ORDINALITY AS e(value, place)
) AS v
LEFT JOIN LATERAL (
  SELECT a.span FROM json_array_elements(c.spans::json) AS a(span)
  WHERE c.spans <> '[]' AND v.place BETWEEN (a.span ->> 0)::integer AND (a.span ->> 1)::integer
  LIMIT 1) AS s ON true
"""

_METER_READINGS = f"CREATE VIEW meter_readings AS {_INTERVALS}"

# One slice of time: the days it touches prune partitions, the instants cut the edges.
_SLICE = """
CREATE FUNCTION meter_readings(wanted_nmi text, from_time timestamptz, to_time timestamptz)
RETURNS SETOF meter_readings LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT r.* FROM meter_readings AS r
  WHERE r.nmi = wanted_nmi
    AND r.day >= (from_time AT TIME ZONE 'Etc/GMT-10')::date
    AND r.day <= (to_time AT TIME ZONE 'Etc/GMT-10')::date
    AND r.interval_start >= from_time AND r.interval_end <= to_time
$$
"""

#: In the order in which they are dropped, before the tables' next shape.
DROP = (
    "DROP FUNCTION IF EXISTS meter_readings(text, timestamptz, timestamptz)",
    "DROP VIEW IF EXISTS meter_readings",
    "DROP VIEW IF EXISTS current_day",
)
#: In the order in which they depend on each other.
CREATE = (_CURRENT_DAY, _METER_READINGS, _SLICE)
