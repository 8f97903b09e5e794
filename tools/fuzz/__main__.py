"""Fuzzes the readers on all cores: `python -m tools.fuzz --count 1000000`, or some files: `--replay FILE...`.

A file's folder names its reader, as in `tests/fuzz_corpus/env/`. Ends with 1 when there was a finding; findings
are saved into that corpus, and the suite feeds them from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tools.fuzz.loop import PART, Finding, Tally, feed, fuzz, quiet
from tools.fuzz.readers import Reader, readers, scratch

CORPUS = Path(__file__).parents[2] / "tests" / "fuzz_corpus"
SEED = 20260314
_MANY_ALIKE = 20  # of one reader: what comes after them is told and not saved
_QUIET_SECONDS = 10.0
_mine: dict[str, Reader] = {}  # of this process


def main() -> int:
    """Fuzz, or replay; return the exit code."""
    arguments = _arguments()
    with scratch() as folder:
        if arguments.replay:
            return replay(readers(folder), arguments.replay)
        names = arguments.readers or list(readers(folder))
        found = sum([_run(name, arguments, folder) for name in names])
    print(f"{found} findings")
    return 1 if found else 0


def replay(every: dict[str, Reader], paths: Iterable[Path]) -> int:
    """Feed readers with saved inputs, and tell what they do."""
    bad = 0
    for path in paths:
        tally = Tally()
        reader = every[path.resolve().parent.name]
        feed(reader, reader.good[0], Tally(), "warm-up")
        with quiet():
            feed(reader, path.read_bytes(), tally, path.name)
        outcome = ", ".join(finding.what for finding in tally.findings) or next(iter(tally.outcomes))
        print(f"{path}: {outcome}; {tally.slowest_ms:.1f} ms")
        bad += len(tally.findings)
    return 1 if bad else 0


def save(finding: Finding, corpus: Path) -> Path:
    """Save a finding's input where the suite looks; return the file."""
    path = corpus / finding.reader / hashlib.sha256(finding.raw).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(finding.raw)
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", help="which readers; all of them without")
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where findings are saved")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="feed these files only")
    return parser.parse_args()


def _run(name: str, arguments: argparse.Namespace, folder: Path) -> int:
    """Fuzz one reader on all cores, telling how far it is; return the number of findings."""
    tally, began, told = Tally(), time.monotonic(), 0.0
    parts = [(name, arguments.seed, part) for part in range(-(-arguments.count // PART))]
    with multiprocessing.Pool(arguments.processes, _enter, (folder,)) as pool:
        for done in pool.imap_unordered(_part, parts):
            tally.add(done)
            if (seconds := time.monotonic() - began) - told > _QUIET_SECONDS:
                told = seconds
                print(f"{name}: {tally.inputs} inputs in {seconds:.0f} s, {len(tally.findings)} findings",
                      file=sys.stderr, flush=True)  # fmt: skip
    print("\n".join(tally.lines(name, arguments.seed)), flush=True)
    for number, finding in enumerate(tally.findings):
        where = (
            save(finding, arguments.corpus)
            if number < _MANY_ALIKE
            else f"{len(finding.raw)} bytes, not saved"
        )
        print(f"  FOUND {finding.what}\n    replay: python -m tools.fuzz --replay {where}")
    return len(tally.findings)


def _enter(folder: Path) -> None:
    own = folder / str(os.getpid())
    own.mkdir()
    _mine.update(readers(own))


def _part(job: tuple[str, int, int]) -> Tally:
    name, seed, part = job
    return fuzz(_mine[name], seed, range(part, part + 1))


if __name__ == "__main__":
    sys.exit(main())
