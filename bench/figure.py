"""What a figure is: a promise, what was measured, and whether the promise holds.

Laws: raw numbers are kept beside every figure; a void figure has no verdict.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BASELINE_LIMIT_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Scope:
    """How much to measure; `quick` shrinks everything to see that it runs, its figures mean little."""

    repetitions: int = 5
    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """Return a size: the full one, or the quick one."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table; `met` is None for a void figure and for one that promises nothing."""

    figure: str
    reach: str
    aim: str
    measured: str
    met: bool | None
    aimed: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return the verdict in a word."""
        if self.met is None:
            return "void" if self.note else "—"
        return "aim met" if self.aimed else "reach met" if self.met else "missed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a module measured: its rows, and the raw numbers behind them."""

    lines: Sequence[Line]
    raw: Mapping[str, Any] = field(default_factory=dict)


Measure = Callable[[Scope], Outcome]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def below(
    figure: str, measured: float, reach: float, aim: float | None, form: str, strictly: bool = False
) -> Line:
    """Return a row for a figure that must not exceed `reach`; `form` formats one number with its unit."""
    met = measured < reach if strictly else measured <= reach
    sign = "<" if strictly else "≤"
    goal = "" if aim is None else form.format(aim)
    aimed = met and (aim is None or measured <= aim)
    return Line(figure, f"{sign} {form.format(reach)}", goal, form.format(measured), met, aimed)


def above(figure: str, measured: float, reach: float, aim: float, form: str) -> Line:
    """Return a row for a figure that must not fall below `reach`."""
    met, aimed = measured >= reach, measured >= aim
    return Line(figure, f"≥ {form.format(reach)}", form.format(aim), form.format(measured), met, aimed)


def voided(line: Line, why: str) -> Line:
    """Return the row without a verdict, for a measurement that cannot be trusted."""
    return Line(line.figure, line.reach, line.aim, line.measured, None, note=why)
