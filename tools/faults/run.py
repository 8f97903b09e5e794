"""One run: a stage, traffic, one fault, its end, and the checker's verdict."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.broker_conf import Conf
from tools.faults.scene import Unexpected
from tools.faults.stage import Stage

Act = Callable[[Stage], None]


@dataclass(frozen=True)
class Fault:
    """A row of the campaign: what is done to a stage, and what kind of stage it needs."""

    row: int
    name: str
    act: Act
    rate: float = 20.0  # writes a second meanwhile; 0 for none
    services: int = 3
    conf: Callable[[Path], Conf] = lambda folder: Conf()
    options: Mapping[str, Any] = field(default_factory=dict)
    in_check: bool = True  # False: it needs mounts or namespaces, and is for `make faults`


FAULTS: dict[str, Fault] = {}


def fault(row: int, name: str, **more: Any) -> Callable[[Act], Act]:
    """Put a function into the table."""

    def put(act: Act) -> Act:
        if name in FAULTS:
            raise ValueError(f"two faults are called {name}")
        FAULTS[name] = Fault(row, name, act, **more)
        return act

    return put


@dataclass
class Result:
    """What came of a run; as a line of a results file."""

    row: int
    fault: str
    seed: int
    full: bool
    seconds: float
    violations: list[str]
    settled_seconds: float | None = None
    acknowledged: int = 0
    refused: int = 0
    applied: int = 0
    heard: int = 0
    kind: str = "real"
    figures: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def run(one: Fault, seed: int, *, full: bool = False, keep: Path | None = None, plant: Mapping[str, str] | None = None,
        ) -> Result:  # fmt: skip
    """Run one fault; the folder is kept where it shall be, or was made to be thrown away."""
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{one.name}-")) if keep is None else keep
    began = time.monotonic()
    try:
        return _run(one, seed, full, folder, plant or {}, began)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(one: Fault, seed: int, full: bool, folder: Path, plant: Mapping[str, str], began: float) -> Result:
    options = dict(one.options)
    environment = {**options.pop("environment", {}), **plant}
    result = Result(one.row, one.name, seed, full, 0.0, [])
    conf = one.conf(folder)
    try:
        made = Stage(
            folder, seed, full=full, services=one.services, conf=conf, environment=environment, **options
        )
        with made as stage:
            trouble = _act(one, stage)
            verdict = stage.verdict()
            result.figures = stage.figures
    except Unexpected as error:
        trouble, verdict = [f"row {one.row}: {error}"], {}
    result.violations = [*trouble, *verdict.get("violations", [])]
    for name in ("settled_seconds", "acknowledged", "refused", "applied", "heard"):
        setattr(result, name, verdict.get(name, getattr(result, name)))
    result.seconds = round(time.monotonic() - began, 3)
    return result


def _act(one: Fault, stage: Stage) -> list[str]:
    """Let it happen; return what did not go as the row says."""
    try:
        stage.begin()
        with stage.traffic(one.rate) if one.rate else contextlib.nullcontext():
            one.act(stage)
    except Unexpected as error:
        return [f"row {one.row}: {error}"]
    except Exception as error:  # noqa: BLE001 - a driver that broke has shown nothing, and must say so
        return [f"row {one.row}: the driver broke: {type(error).__name__}: {error}"]
    return []
