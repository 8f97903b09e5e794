"""Tables that lose nothing: rows as wide as they are, folded between words, or one record below the other.

Laws: what is no terminal gets one line a row; a word is never broken, so that what is shown can be copied.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from config_daemon.cli.printing import painted, visible

_GAP = "  "


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], columns: int | None = None) -> str:
    """Return rows below their headings, aligned; on a terminal, or for `columns`, folded to its width."""
    cells = [[visible("" if cell is None else str(cell)) for cell in row] for row in rows]
    limit = _terminal_columns() if columns is None else columns
    widths = _widths([head, *cells], limit)
    if widths is None:
        return "\n\n".join(_record(head, row, limit) for row in cells)
    first, *others = (_folded_row(row, widths) for row in (head, *cells))
    return "\n".join([painted(first, bold=True), *others])


def _terminal_columns() -> int:
    """Return how wide the terminal is, 0 where there is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return 0
    import shutil

    return shutil.get_terminal_size().columns


def _widths(lines: Sequence[Sequence[str]], limit: int) -> list[int] | None:
    """Return how wide each column may be within the limit (0: any), None when words are too long for it."""
    by_column = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in by_column]
    if not limit:
        return widths
    least = [max(len(word) for cell in column for word in cell.split() or [""]) for column in by_column]
    room = limit - len(_GAP) * (len(widths) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
    return widths


def _folded_row(row: Sequence[str], widths: Sequence[int]) -> str:
    parts = [_folded(cell, width) for cell, width in zip(row, widths, strict=True)]
    return "\n".join(
        _GAP.join(
            f"{part[line] if line < len(part) else '':<{width}}"
            for part, width in zip(parts, widths, strict=True)
        ).rstrip()
        for line in range(max(map(len, parts)))
    )


def _record(head: Sequence[str], row: Sequence[str], limit: int) -> str:
    name_width = max(map(len, head))
    indent = "\n" + " " * (name_width + len(_GAP))
    return "\n".join(
        painted(f"{name:<{name_width}}", bold=True)
        + _GAP
        + indent.join(_folded(cell, max(limit - name_width - len(_GAP), 1)))
        for name, cell in zip(head, row, strict=True)
        if cell
    )


def _folded(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    import textwrap

    return textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False)
