"""The two views that any SQLite tool can query.

Why: people have their own tools. ``current_day`` is one row per NMI-suffix-day, the winner;
``meter_readings`` one row per interval. Both read published loads only, so a load in progress is
never seen.

``value`` is exact decimal text ("0.125"). Summing it as a number makes a binary float; for exact
totals sum ``scaled`` (an integer) per ``scale``. ``day`` is there because filtering on it, and on
``nmi``, uses the index.
"""

from __future__ import annotations

_WINNER = """
    SELECT c.*, l.file,
           row_number() OVER (
             PARTITION BY c.nmi, c.day, c.suffix
             ORDER BY c.version_at DESC, c.file_at DESC, c.content_hash DESC, c.load DESC
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
JOIN day_content AS d ON d.rowid = (
  SELECT e.rowid FROM day_content AS e
  WHERE e.nmi = w.nmi AND e.day = w.day AND e.suffix = w.suffix
    AND e.content_hash = w.content_hash
  LIMIT 1)
WHERE w.place = 1
"""  # noqa: S608 - no outside text

# The 400 that covers an interval decides its quality and reason; else the 300 does.
_SPAN = """(SELECT s.value FROM json_each(c.spans) AS s
   WHERE v.key + 1 BETWEEN json_extract(s.value, '$[0]') AND json_extract(s.value, '$[1]')
   LIMIT 1)"""

_METER_READINGS = f"""
CREATE VIEW meter_readings AS
SELECT nmi, suffix, day, interval_start, interval_end,
       CASE WHEN scaled IS NULL OR exact IS NOT NULL THEN exact
            WHEN scale = 0 THEN cast(scaled AS text)
            ELSE substr(digits, 1, length(digits) - scale) || '.' || substr(digits, -scale)
       END AS value,
       scaled, scale, uom,
       CASE WHEN span IS NULL THEN quality ELSE json_extract(span, '$[2]') END AS quality,
       CASE WHEN span IS NULL THEN method ELSE json_extract(span, '$[3]') END AS method,
       CASE WHEN span IS NULL THEN reason_code ELSE json_extract(span, '$[4]') END AS reason_code,
       CASE WHEN span IS NULL THEN reason_text ELSE json_extract(span, '$[5]') END AS reason_text,
       register_id, meter_serial, version_at, file_at, file_id
FROM (
  SELECT c.nmi, c.suffix, c.day,
         strftime('%Y-%m-%dT%H:%M:%S+10:00', c.day,
                  '+' || (v.key * c.interval_minutes) || ' minutes') AS interval_start,
         strftime('%Y-%m-%dT%H:%M:%S+10:00', c.day,
                  '+' || ((v.key + 1) * c.interval_minutes) || ' minutes') AS interval_end,
         CASE WHEN c.exact_values IS NULL THEN v.value END AS scaled,
         CASE WHEN c.exact_values IS NOT NULL THEN v.value END AS exact,
         printf('%0*d', c.scale + 1, v.value) AS digits,
         c.scale, c.uom, c.quality, c.method, c.reason_code, c.reason_text,
         CASE WHEN c.spans <> '[]' THEN {_SPAN} END AS span,
         c.register_id, c.meter_serial, c.version_at, c.file_at, c.file_id
  FROM current_day AS c JOIN json_each(coalesce(c.exact_values, c.scaled_values)) AS v)
"""  # noqa: S608 - no outside text

DROP = ("DROP VIEW IF EXISTS meter_readings", "DROP VIEW IF EXISTS current_day")
#: In the order in which they depend on each other.
CREATE = (_CURRENT_DAY, _METER_READINGS)
