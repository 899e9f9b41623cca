"""What the measurements of the service look like on docs/benchmarks.md and at a terminal.

The page keeps this part between two marks, so that the rest of it and this part can be measured
in different runs.
"""

from __future__ import annotations

import re
from typing import Any

BEGIN, END = "<!-- service: begin -->", "<!-- service: end -->"


def section(result: dict[str, Any]) -> str:
    """The part of the page, marks included."""
    form = "short form: only to see that it works" if result["quick"] else "full form"
    parts = [
        BEGIN,
        "## The service",
        f'Written by `make bench ARGS="--only service --write-docs"` on {result["on"]} ({form}; '
        f"{result['cores']} cores, load average before the run {result['load_before']}).",
        "**Accepted.** Files of 2 KB by 8 connections; answered when the bytes are flushed and, by "
        "nemflow, the ledger has committed. The bare endpoint is starlette on uvicorn. Client and "
        "servers share the machine.",
        table(
            ("who", "uploads/s", "of bare", "p50 (ms)", "p95 (ms)"),
            [
                (r["who"], f"{r['per_second']:,.0f}", f"{r['of_bare']:.2f}", _ms(r["p50"]),
                 _ms(r["p95"]))
                for r in result["accepted"]
            ],
        ),
        "**Loaded.** From the first upload of a batch to the last commit.",
        table(
            ("queue", "store", "workers", "file", "files", "files/s", "MB/s"),
            [_loaded(row) for row in result["loaded"]],
        ),
        "**Keeping up.** Every 5 s one file each of 5, 15 and 30 minutes x 50 NMIs x 50 days: "
        "720,000 + 240,000 + 120,000 readings.",
        table(
            ("queue", "workers", "for", "readings", "most files waiting", "oldest (s)",
             "upload to committed p50 / p95 / max (s)", "memory (MB)", "all as it must be"),
            [_kept_up(row) for row in result["keeping_up"]],
        ),
        END,
    ]  # fmt: skip
    return "\n\n".join(parts)


def placed(page: str, part: str) -> str:
    """The page with this part in the place of the earlier one, or at its end."""
    found = re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", page, re.DOTALL)
    if found is None:
        return f"{page.rstrip()}\n\n{part}\n"
    return page[: found.start()] + part + page[found.end() :]


def kept(new_page: str, old_page: str) -> str:
    """A new page with the service's part of the old one, if it had one."""
    found = re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", old_page, re.DOTALL)
    return placed(new_page, found[0]) if found else new_page


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _loaded(row: dict[str, Any]) -> tuple[str, ...]:
    first = (row["queue"], row["store"], str(row["workers"]))
    if "trouble" in row:
        return (*first, row["trouble"], "", "", "")
    size = row["bytes_each"]
    each = f"{size / 1e6:.1f} MB" if size > 1e6 else f"{size / 1e3:.1f} KB"
    return (*first, each, str(row["files"]), f"{row['per_second']:.2f}", f"{row['mb_s']:.2f}")


def _kept_up(row: dict[str, Any]) -> tuple[str, ...]:
    first = (row["queue"], str(row["workers"]), f"{row['for_seconds']:.0f} s")
    if "trouble" in row:
        return (*first, row["trouble"], "", "", "", "", "")
    final = row["final"] or {}
    return (
        *first,
        f"{row['readings'] / 1e6:.1f} M",
        str(row["waiting_files"]),
        f"{row['oldest_seconds']:.1f}",
        " / ".join(f"{value:.2f}" for value in final.values()),
        f"{row['memory_mb']:,.0f}",
        "yes" if row["right"] else "NO",
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"
