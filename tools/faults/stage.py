"""One run's stage: a broker, a daemon, two workers, writers, the checker; and what a fault can do to them.

Laws: everything is a real process on real files; what happens by chance follows from the seed; whatever the driver
knows is noted for the checker, which asks nobody; everything ends with the stage.
"""

from __future__ import annotations

import contextlib
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from config_daemon.cli.private_broker_files import mosquitto_programs
from config_daemon.wire.keys import public_key_pem
from tests.broker_conf import Conf
from tests.broker_proxy import Proxy
from tests.real_broker import LocalBroker
from tools.faults.children import Child
from tools.faults.notes import HEALTH, Notes
from tools.faults.referee import Referee
from tools.faults.scene import Unexpected
from tools.faults.template import DEFAULTS, copy_template, define
from tools.faults.traffic import Traffic, Writer

QUICK_ENV = {"CONFIG_DAEMON_HEALTH_SECONDS": "2", "CONFIG_DAEMON_KEEPALIVE_SECONDS": "2"}
WORKERS = ("edge-1", "edge-2")


class Stage(Notes):
    """The stage of one run; `overlays` are the values that `.env` may give, by service and key."""

    def __init__(
        self, folder: Path, seed: int, *, full: bool = False, services: int = 3, conf: Conf | None = None,
        through_proxy: bool = False, environment: Mapping[str, str] | None = None, patience: float = 10.0,
        overlays: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, folder / "data", seed, [f"svc-{number}" for number in range(services)], full)
        self._patience, self._overlays = patience, overlays or {}
        self._conf, self._through_proxy = conf or Conf(), through_proxy
        self.environment = {**QUICK_ENV, **(environment or {})}
        if self.ca is not None:
            self.environment["CONFIG_DAEMON_MQTT_CA_FILE"] = str(self.ca)
        self._opened, self._writers = contextlib.ExitStack(), 0
        self._passwords = {name: f"canary-{name}-{seed}" for name in ("daemon", "edge", "ear")}

    # building and ending --------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._opened.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _build(self) -> None:
        for name in ("logs", "acks", "scratch"):
            (self.folder / name).mkdir(parents=True)
        copy_template(self.data)
        self.define(self.services)
        programs = mosquitto_programs()
        if programs is None:
            raise Unexpected("mosquitto is missing: apt-get install mosquitto")
        conf = Conf(self._conf.extra_conf, self._conf.acl, self._passwords, self._conf.tls, self._conf.text)
        self.broker = LocalBroker(programs[0], self.folder / "broker", conf)
        self._opened.callback(self.broker.close)
        if self._through_proxy:
            self.proxy = Proxy(self.broker.port, self.broker.host, scheme=self.broker.scheme)
            self._opened.callback(self.proxy.close)
        self._opened.callback(self._end_children)
        self._referee = Referee(self._spec(), self.folder / "spec.json")
        self._opened.callback(self._referee.close)

    def define(self, services: list[str]) -> None:
        """Define services, as a person does who drops schema files."""
        define(self.files.schemas, services)

    def _end_children(self) -> None:
        for child in [self.daemon, *self.workers.values()]:
            if child is not None:
                child.kill()

    def verdict(self) -> dict[str, Any]:
        """Tell the checker that the fault is over, and return what it says."""
        return self._referee.verdict()

    # what there is --------------------------------------------------------------------------------

    @cached_property
    def first_key(self) -> str:
        """Return the public key that every worker is given."""
        return public_key_pem(self.ground.keys.public_key())

    @property
    def ca(self) -> Path | None:
        """Return the CA that clients of the broker need, where it has a certificate."""
        return self._conf.tls.ca if self._conf.tls else None

    def url(self, user: str, direct: bool = False) -> str:
        """Return the broker's address for a user."""
        port = self.proxy.port if self._through_proxy and not direct else self.broker.port
        return self.broker.url_for(user, self._passwords[user]).replace(f":{self.broker.port}", f":{port}")

    def secrets(self) -> list[str]:
        """Return everything that must be nowhere but in `.env` and in the processes."""
        keys = self.ground.keys
        pem = [line for line in self.files.environment.read_text().splitlines() if "PRIVATE_KEY" in line]
        body = [part for line in pem for part in line.replace("\\n", "\n").split() if len(part) > 50]
        named = [keys.find(name) for name in ("CONFIG_MASTER_KEY_BASE64", "LKG_HMAC_KEY_BASE64")]
        seed = b64encode(bytes(keys.signer().key)).decode()
        return [*self._passwords.values(), seed, *(part.strip('"') for part in body), *named]

    def _spec(self) -> dict[str, Any]:
        tls = self._conf.tls
        broker = {
            "host": self.broker.host,
            "port": self.broker.port,
            "user": "ear",
            "password": self._passwords["ear"],
        }
        return {
            "broker": broker | ({"ca": str(tls.ca)} if tls else {}), "health": HEALTH, "data": str(self.data),
            "keys": [bytes(self.ground.keys.public_key()).hex()], "logs": str(self.folder / "logs"),
            "notes": str(self.folder / "notes.jsonl"), "acks": str(self.folder / "acks"),
            "workers": {name: str(self.worker_lines(name)) for name in WORKERS},
            "services": self.services, "defaults": DEFAULTS, "overlays": self._overlays, "patience": self._patience,
            "scratch": str(self.folder / "scratch"), "secrets": self.secrets(),
        }  # fmt: skip

    # processes ------------------------------------------------------------------------------------

    def start_daemon(self, failpoint: str = "", *, wrap: tuple[str, ...] = (), **environment: str) -> Child:
        """Start the daemon; `wrap` are the words of a program that starts it."""
        self.daemon = Child(
            [*wrap, sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(self.data)],
            {"MQTT_URL": self.url("daemon"), "CONFIG_DAEMON_FAILPOINT": failpoint, **self.environment, **environment},
            self.folder / "logs" / "daemon.log",
        )  # fmt: skip
        return self.daemon

    def kill_daemon(self) -> None:
        """End the daemon as `kill -9` does."""
        if self.daemon is not None:
            self.daemon.kill()

    def start_worker(self, name: str, failpoint: str = "", *, url: str = "", **environment: str) -> Child:
        """Start a worker, or start it again on what it kept."""
        self.workers[name] = Child(
            [sys.executable, "-m", "tools.faults.edge"],
            {
                "EDGE_URL": url or self.url("edge", direct=True), "EDGE_KEY": self.first_key, "EDGE_NAME": name,
                "EDGE_STATE": str(self.folder / f"state-{name}"), "EDGE_SERVICES": ",".join(self.services),
                "EDGE_LINES": str(self.worker_lines(name)), "EDGE_FIRST_USE": "run" if name == "edge-2" else "wait",
                "CONFIG_DAEMON_FAILPOINT": failpoint, **self.plant, **environment,
                **({"EDGE_CA": str(self._conf.tls.ca)} if self._conf.tls else {}),
            },
            self.folder / "logs" / f"{name}.log",
        )  # fmt: skip
        return self.workers[name]

    @property
    def plant(self) -> dict[str, str]:
        """Return what makes every process of the product a wrong one, where this stage shall have one."""
        return {
            name: self.environment[name]
            for name in ("PYTHONPATH", "FAULTS_PLANT")
            if name in self.environment
        }

    def writer(self) -> Writer:
        """Return one more writer."""
        self._writers += 1
        writer = Writer(self.data, self.folder / "acks" / f"w{self._writers}.jsonl", f"w{self._writers}")
        self._opened.callback(writer.close)
        return writer

    def traffic(self, rate: float) -> Traffic:
        """Return writes at a rate per second, begun by `with`."""
        return Traffic(self.writer(), self.services, rate, self.rng.randrange(1 << 30))

    def writing_process(self, rate: float, failpoint: str = "", *, wrap: tuple[str, ...] = ()) -> Child:
        """Start a process that writes at a rate until it is ended."""
        self._writers += 1
        name = f"w{self._writers}"
        child = Child(
            [*wrap, sys.executable, "-m", "tools.faults.traffic", str(self.data),
             str(self.folder / "acks" / f"{name}.jsonl"), name, str(rate), str(self.rng.randrange(1 << 30)),
             *self.services],
            {"CONFIG_DAEMON_FAILPOINT": failpoint, **self.plant}, self.folder / "logs" / f"{name}.log",
        )  # fmt: skip
        self._opened.callback(child.kill)
        return child

    def write_each(self) -> None:
        """Write every service once."""
        writer = self.writer()
        for service in self.services:
            writer.write(service)
        writer.close()

    def begin(self) -> None:
        """Start daemon and workers, write each service once, and wait until all of it is in force."""
        self.start_daemon()
        for name in WORKERS:
            self.start_worker(name)
        writer = self.writer()
        versions = {service: writer.write(service) for service in self.services}
        writer.close()
        self.until(lambda: self.in_force(versions), "the first versions in force")
        self.until(lambda: self.files.cache.exists(), "the cache")

    @staticmethod
    def tracing(paths: Sequence[Path], injection: str, calls: str = "all") -> tuple[str, ...]:
        """Return the words of strace that do something at system calls on some paths."""
        named = [word for path in paths for word in ("-P", str(path))]
        return ("strace", "-D", "-f", "-qq", "-o", "/dev/null", *named, "-e", f"inject={calls}:{injection}")

    def trace(self, pid: int, paths: Sequence[Path], injection: str, calls: str = "all") -> Child:
        """Have strace do something at a running process's system calls on some paths."""
        words = [word for word in self.tracing(paths, injection, calls) if word not in ("-D", "-qq")]
        tracer = Child([*words, "-p", str(pid)], {}, self.folder / "logs" / "strace.log")
        self._opened.callback(tracer.kill)
        self.until(lambda: "attached" in tracer.said or not tracer.running, "strace")
        return tracer
