"""Failing system calls, by strace: what a dying disk answers, and to whom."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.house import until


class Failing:
    """Calls that fail while it lasts; `hits` counts those that did."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def hits(self) -> int:
        return self._log.read_text().count("(INJECTED)") if self._log.exists() else 0


def options(log: Path, call: str, error: str, when: str, paths: Sequence[Path]) -> list[str]:
    """Return strace's words for failing a call on some files; `when` is `3` for the third, `3+` from there on."""
    named = [word for path in paths for word in ("-P", str(path))]
    return [
        "strace", "-f", "-o", str(log), *named, "-e", f"trace={call}",
        "-e", f"inject={call}:error={error}:when={when}",
    ]  # fmt: skip


@contextlib.contextmanager
def failing(
    pid: int, log: Path, call: str, error: str, when: str, paths: Sequence[Path]
) -> Iterator[Failing]:
    """Have calls of a running process fail."""
    tracer = subprocess.Popen(
        [*options(log, call, error, when, paths), "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        assert "attached" in line, f"strace may not attach to a daemon here: {line}"
        yield Failing(log)
    finally:
        tracer.terminate()
        tracer.communicate()
        until(lambda: "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text(), "strace gone")
