"""`python -m tools.faults.checker SPEC`: listen until told that the fault is over, then judge.

Says `ready` once it hears the broker. A line on stdin ends the fault; then it looks until N2, N3 and health's end
hold, or the patience is over, judges everything, prints one JSON object and ends.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import apsw

from tools.faults.checker import laws
from tools.faults.checker.book import Board, Book, copy, read
from tools.faults.checker.ear import Ear
from tools.faults.checker.leaks import n7
from tools.faults.checker.record import Record, gather, keys_of

LOOK_SECONDS = 0.1
BOARD_SECONDS = 0.05


class Judge:
    """One run's checker."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec, self._ear = spec, Ear(spec["broker"])
        self._board: list[tuple[float, dict[str, Any]]] = []
        self._data, self._scratch = Path(spec["data"]), Path(spec["scratch"])

    def listen(self) -> None:
        """Hear and watch until a line comes on stdin."""
        if not self._ear.listening.wait(10):
            raise SystemExit("the checker does not reach the broker")
        print("ready", flush=True)
        over = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
        board = Board(self._data / "status.db")
        while not over.wait(BOARD_SECONDS):
            if said := board.health():
                self._board.append((time.monotonic(), said))

    def verdict(self) -> dict[str, Any]:
        """Wait for the end of all trouble, and judge."""
        began = time.monotonic()
        while True:
            record, book, retained, open_ends = self._look()
            took = time.monotonic() - began
            if not open_ends or took > self._spec["patience"]:
                break
            time.sleep(LOOK_SECONDS)
        self._ear.close()
        truth = laws.Truth(record, book)
        breaches = [*open_ends, *self._lasting(truth)]
        taken = sum(line.get("state") == "applied" for worker in record.workers for line in worker.said)
        acked = sum(ack["kind"] == "ack" for ack in record.acks)
        for what, count in (("acknowledged", acked), ("applied", taken), ("published", len(record.configs))):
            if not count:
                breaches.append(f"N0 nothing was {what}: this run shows nothing")
        seen = {"acknowledged": acked, "applied": taken, "heard": len(self._ear.heard), "refused": sum(
            ack["kind"] == "refused" for ack in record.acks)}  # fmt: skip
        return {
            "violations": breaches,
            "settled_seconds": round(took, 3),
            "retained": len(retained or {}),
            **seen,
        }

    def _look(self) -> tuple[Record, Book, dict[str, bytes] | None, list[str]]:
        """Look at everything once; the last of what is returned is what has not come to its end."""
        retained = self._ear.retained()
        heard = list(self._ear.heard)
        record, keys = gather(self._spec, heard), keys_of(self._spec, heard)
        trouble, book = [], Book()
        try:
            book = read(self._data / "config.db", self._scratch / "config.copy")
        except (apsw.Error, ValueError) as error:
            trouble.append(f"N1 the database cannot be read: {error}")
        truth = laws.Truth(record, book)
        trouble += [f"N2 {text}" for text in laws.n2(truth, retained, keys)]
        trouble += [f"N3 {text}" for text in laws.n3(truth, retained, keys)]
        trouble += [f"N6 {text}" for text in laws.n6_at_the_end(retained, self._spec["health"], keys)]
        return record, book, retained, trouble

    def _lasting(self, truth: laws.Truth) -> list[str]:
        copies = [self._scratch / "config.copy"]
        with contextlib.suppress(apsw.Error):
            copies.append(copy(self._data / "status.db", self._scratch / "status.copy"))
        found = {
            "N1": laws.n1(truth), "N4": laws.n4(truth), "N5": laws.n5(truth), "N6": laws.n6(truth.record, self._board),
            "N7": n7(self._spec["secrets"], self._ear.heard, [self._data, Path(self._spec["logs"])], copies),
        }  # fmt: skip
        return [f"{law} {text}" for law, texts in found.items() for text in dict.fromkeys(texts)]


def main() -> int:
    """Judge the run that a file describes."""
    judge = Judge(json.loads(Path(sys.argv[1]).read_text()))
    judge.listen()
    print(json.dumps(judge.verdict()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
