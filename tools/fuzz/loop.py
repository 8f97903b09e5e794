"""Feeds one reader: counts what it accepts and refuses, and keeps what it must never do.

Laws: an input is a finding when the reader raises anything but its typed refusals, takes more than SLOW_MS of
CPU time, or refuses an input that is good; a slow one was tried again, since a machine has other things to do.
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from tools.fuzz.readers import Read, Reader, reason

SLOW_MS = 50.0
TRIES = 3
CONTROL_EVERY = 50
PART = 1000  # inputs that follow from one seed: the least that can be repeated
LARGE = 4  # of them
_BODY_SHARE = 0.7


class Finding(NamedTuple):
    """An input, and what a reader did with it that it must not."""

    reader: str
    what: str
    raw: bytes


@dataclass
class Tally:
    """What became of all inputs."""

    made: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    slowest: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """Return how many inputs there were; the good ones that came between are not counted."""
        return self.made.total()

    def add(self, other: Tally) -> None:
        """Add what became of other inputs."""
        self.made += other.made
        self.outcomes += other.outcomes
        self.findings += other.findings
        if other.slowest_ms > self.slowest_ms:
            self.slowest_ms, self.slowest = other.slowest_ms, other.slowest

    def lines(self, name: str, seed: int) -> Iterator[str]:
        """Yield what to tell about a run."""
        accepted = self.outcomes["accepted"]
        yield (
            f"{name}: {self.inputs} inputs, {accepted} accepted, {self.inputs - accepted} refused, "
            f"{self.outcomes['control']} controls, slowest {self.slowest_ms:.1f} ms ({self.slowest}), seed {seed}"
        )
        refused = [(why, n) for why, n in self.outcomes.most_common() if why not in ("accepted", "control")]
        yield "  refused: " + ", ".join(f"{why} {count}" for why, count in refused)
        yield "  classes: " + ", ".join(f"{name} {count}" for name, count in sorted(self.made.items()))


def fuzz(reader: Reader, seed: int, parts: range) -> Tally:
    """Feed a reader with PART inputs for each part, which follow from seed and part, and with good ones between."""
    tally = Tally()
    for good in reader.good:  # before any clock runs: what is imported late is no reader's fault
        _control(reader, good, tally)
    with quiet():
        for part in parts:
            for number, (name, raw) in enumerate(_inputs(reader, seed, part)):
                if number % CONTROL_EVERY == 0:
                    _control(reader, reader.good[number // CONTROL_EVERY % len(reader.good)], tally)
                tally.made[name.partition(":")[0]] += 1
                feed(reader, raw, tally, name)
    return tally


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the collector away from all that this program holds: it would walk through it on the readers' time.

    Within another `quiet` there is nothing left to do.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def feed(reader: Reader, raw: bytes, tally: Tally, name: str) -> None:
    """Feed a reader with one input, and write down what it did."""
    for turn, read in enumerate(reader.reads):
        outcome, took_ms = _timed(reader, read, raw, tally)
        if took_ms > SLOW_MS:
            took_ms = min(took_ms, *(_timed(reader, read, raw, tally)[1] for _ in range(TRIES)))
            if took_ms > SLOW_MS:
                tally.findings.append(Finding(reader.name, f"slow: {took_ms:.0f} ms ({name})", raw))
        if took_ms > tally.slowest_ms:
            tally.slowest_ms, tally.slowest = took_ms, f"{name}, {len(raw)} bytes: {outcome}"
        if turn == 0:
            tally.outcomes[outcome] += 1


def _timed(reader: Reader, read: Read, raw: bytes, tally: Tally) -> tuple[str, float]:
    """Return what a reader did, and how many milliseconds of this thread it took."""
    began = time.thread_time_ns()
    try:
        read(raw)
        outcome = "accepted"
    except reader.refusals as refusal:
        outcome = reason(refusal)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        outcome = f"raised {type(error).__name__}: {error}"[:200]
        tally.findings.append(Finding(reader.name, outcome, raw))
    return outcome, (time.thread_time_ns() - began) / 1e6


def _control(reader: Reader, good: bytes, tally: Tally) -> None:
    tally.outcomes["control"] += 1
    outcome, _ = _timed(reader, reader.reads[0], good, tally)
    if outcome != "accepted":
        tally.findings.append(Finding(reader.name, f"a good input was refused: {outcome}", good))


def _inputs(reader: Reader, seed: int, part: int) -> Iterator[tuple[str, bytes]]:
    """Yield the inputs of a part with the names of their classes; most were changed first and sealed then."""
    rng = random.Random(f"{seed}/{reader.name}/{part}")  # noqa: S311 - to be repeated, not to be secret
    by_body = [(f"body {name}", make(rng, reader.plain)) for name, make in reader.by_body.items()]
    by_raw = [(f"raw {name}", make(rng, reader.good)) for name, make in reader.by_raw.items()]
    for number in range(PART):
        turn, rest = divmod(number, PART // LARGE)
        if rest == 0:
            shape, body = reader.large(rng, reader.plain, reader.most_bytes, part * LARGE + turn)
            yield f"large: {shape}", reader.seal(body)
        elif rng.random() < _BODY_SHARE:
            name, mutants = rng.choice(by_body)
            yield name, reader.seal(next(mutants))
        else:
            name, mutants = rng.choice(by_raw)
            yield name, next(mutants)
