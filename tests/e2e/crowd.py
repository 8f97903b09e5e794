"""Many workers of one service: some real processes, each with a trouble of its own, the others threads of this one.

Laws: every one of them is a whole worker with its own connection, keys and state folder; what each of them was
given is remembered, so that a step back is seen; everything ends with the crowd.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from config_daemon.cli.session import Session
from config_daemon.cli.worker_add import expect
from config_daemon.errors import ErrorContext, InvalidConfig
from config_daemon.wire.workerkeys import PublicKeys
from config_daemon.worker import Change, ConfigClient
from tests.e2e.house import House, Process
from tests.node.programs import workshop

SERVICE = "stt-worker"
MODEL_LIMIT = 0.6


class Given(NamedTuple):
    """What a program was given, in its order."""

    generation: int
    sequence: int
    threshold: float


def refusing(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Stand for a program whose own model allows less than the service's definition."""
    if values["vad_threshold"] > MODEL_LIMIT:
        message = f"vad_threshold must be at most {MODEL_LIMIT}"
        problem = ErrorContext("invalid_config", "OUT_OF_RANGE", message, "Use less.", "vad_threshold")
        raise InvalidConfig(message, contexts=[problem])
    return values


class Simulated:
    """A worker in a thread of the test; `given` outlives its restarts."""

    def __init__(self, crowd: Crowd, name: str, model: Any = None) -> None:
        self.name, self.folder, self._crowd, self._model = name, crowd.folder / name, crowd, model
        self.given: list[Given] = []
        self.client: ConfigClient

    def start(self) -> None:
        """Begin another life."""
        self.client = ConfigClient(
            SERVICE, worker=self.name, broker=self._crowd.house.broker_url, state=self.folder,
            public_key=self._crowd.house.public_key, apply=self._apply, model=self._model, note=lambda _text: None,
        )  # fmt: skip
        self.client.start()

    def fill_disk(self) -> None:
        """Have nothing of its state be written any more."""

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.client._follower._keep.save = full  # type: ignore[method-assign]

    def _apply(self, change: Change) -> None:
        update = change.update
        self.given.append(Given(update.generation, update.sequence, change.new["vad_threshold"]))


class Crowd:
    """All workers of the service, by name."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house, self.folder = house, folder
        folder.mkdir()
        self.simulated: dict[str, Simulated] = {}
        self.processes: dict[str, Process] = {}

    def simulate(self, name: str, model: Any = None) -> Simulated:
        """Start a worker in a thread."""
        self.simulated[name] = worker = Simulated(self, name, model)
        worker.start()
        return worker

    def python(self, name: str, module: str = "config_daemon.cli.demo_worker", failpoint: str = "") -> None:
        """Start the demo worker as a process."""
        self._start(name, [sys.executable, "-m", module], {
            "DEMO_MQTT_URL": self.house.broker_url, "CONFIG_SIGNATURE_PUBLIC_KEY": self.house.public_key,
            "DEMO_WORKER": name, "DEMO_STATE": str(self.folder / name), "CONFIG_DAEMON_FAILPOINT": failpoint,
            "DEMO_FIRST_USE": "run",
        })  # fmt: skip

    def node(self, name: str) -> None:
        """Start the worker in JavaScript."""
        options = {
            "services": [SERVICE], "worker": name, "broker": self.house.broker_url,
            "state": str(self.folder / name), "publicKey": self.house.public_key,
        }  # fmt: skip
        argv = workshop(self.folder / "workshop", "worker_program.mjs")
        self._start(name, argv, {"NODE_WORKER": json.dumps(options)})

    def agent(self, name: str, *commands: str) -> None:
        """Start an agent that renders a `.env`; `{file}` in a command is that file."""
        place = self.folder / f"{name}.host"
        place.mkdir()
        file, key = place / "app.env", place / "key.pem"
        key.write_text(self.house.public_key)
        arguments = [one.replace("{file}", str(file)) for one in commands]
        self._start(name, [
            sys.executable, "-m", "config_daemon.agent.main", "--service", SERVICE, "--render", f"env:{file}",
            "--worker", name, "--state", str(self.folder / name), "--public-key", str(key), *arguments,
        ], {"MQTT_URL": self.house.broker_url})  # fmt: skip

    def rendered(self, name: str) -> float:
        """Return what the program beside an agent would read."""
        lines = (self.folder / f"{name}.host" / "app.env").read_text().splitlines()
        return float(dict(line.split("=", 1) for line in lines)["VAD_THRESHOLD"])

    @property
    def names(self) -> list[str]:
        """Return all workers' names."""
        return sorted({*self.simulated, *self.processes})

    def has_keys(self) -> bool:
        """Tell whether every worker has written its public keys."""
        return all((self.folder / name / "worker.public.json").exists() for name in self.names)

    def expect_all(self) -> None:
        """Have the daemon expect all of them, as `worker add` does."""
        session = Session(data=str(self.house.folder))
        for name in self.names:
            public = PublicKeys.from_text((self.folder / name / "worker.public.json").read_text())
            expect(session, public, [SERVICE], False, None)

    def close(self) -> None:
        """End all of them."""
        for worker in self.simulated.values():
            worker.client._link.stop()
        for worker in self.simulated.values():
            worker.client.stop()

    def _start(self, name: str, argv: list[str], environment: dict[str, str]) -> None:
        self.processes[name] = process = Process(argv, environment)
        self.house._processes.append(process)
