"""One run's scene: a broker, a daemon, two workers, writers, the checker; and what a fault can do to them.

Laws: everything is a real process on real files; what happens by chance follows from the seed; whatever the driver
knows is noted for the checker, which asks nobody; everything ends with the stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import apsw

from config_daemon.cli.private_broker import ends_with_parent
from config_daemon.cli.private_broker_files import mosquitto_programs
from config_daemon.errors import CacheError
from config_daemon.store import cache as cache_file
from config_daemon.store.files import Files
from config_daemon.store.ground import load_ground
from config_daemon.store.status import StatusView
from config_daemon.wire.keys import public_key_pem
from tests.broker_conf import Conf
from tests.broker_proxy import Proxy
from tests.raw_client import RawClient, Refused
from tests.real_broker import LocalBroker
from tools.faults.children import Child
from tools.faults.traffic import Traffic, Writer

DEFAULTS = {"token": "", "count": 0, "fixed": "as shipped", "padding": ""}
HEALTH = "system/health/config-daemon"
SCHEMA = json.dumps({
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": False,
    "properties": {
        key: {"type": "integer" if value == 0 else "string", "default": value, "description": key}
        for key, value in DEFAULTS.items()
    },
})  # fmt: skip
SECONDS = 20.0
QUICK_ENV = {"CONFIG_DAEMON_HEALTH_SECONDS": "2", "CONFIG_DAEMON_KEEPALIVE_SECONDS": "2"}


class Unexpected(Exception):
    """What a row of the campaign says did not happen."""


class Stage:
    """The scene of one run; `full` asks for the durations and counts that the campaign names."""

    def __init__(
        self, folder: Path, seed: int, *, full: bool = False, services: int = 3, conf: Conf | None = None,
        through_proxy: bool = False, environment: Mapping[str, str] | None = None, patience: float = 10.0,
        data_folder: Path | None = None, starts_itself: bool = False,
        overlays: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.seed, self.full, self.patience = folder, seed, full, patience
        self.rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.services = [f"svc-{number}" for number in range(services)]
        self.environment = {**QUICK_ENV, **(environment or {})}
        if conf is not None and conf.tls is not None:
            self.environment["CONFIG_DAEMON_MQTT_CA_FILE"] = str(conf.tls.ca)
        self.data = data_folder or folder / "data"
        self.daemon: Child | None = None
        self.workers: dict[str, Child] = {}
        self._conf, self._through_proxy, self._overlays = conf or Conf(), through_proxy, overlays or {}
        self._opened, self._writers = contextlib.ExitStack(), 0
        self.figures: dict[str, Any] = {}
        self.starts_itself = starts_itself
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
        self._start_checker()

    def define(self, services: list[str]) -> None:
        """Define services, as a person does who drops schema files."""
        for service in services:
            (self.files.schemas / f"{service}.schema.json").write_text(SCHEMA)

    def _end_children(self) -> None:
        for child in [self.daemon, *self.workers.values()]:
            if child is not None:
                child.kill()

    # what there is --------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        """Return the data folder's files."""
        return Files.below(self.data)

    @property
    def ground(self) -> Any:
        """Return settings and keys as they are now."""
        return load_ground(self.data, {}, {})

    @cached_property
    def first_key(self) -> str:
        """Return the public key that every worker is given."""
        return public_key_pem(self.ground.keys.public_key())

    @property
    def view(self) -> StatusView:
        """Return what the daemon says on its board."""
        return StatusView(self.files.status)

    @property
    def conditions(self) -> set[str]:
        """Return the names of the open conditions."""
        return {row[0] for row in self.view.conditions()}

    @property
    def ca(self) -> Path | None:
        """Return the CA that clients of the broker need, where it has a certificate."""
        return self._conf.tls.ca if self._conf.tls else None

    def url(self, user: str, direct: bool = False) -> str:
        """Return the broker's address for a user."""
        port = self.proxy.port if self._through_proxy and not direct else self.broker.port
        return self.broker.url_for(user, self._passwords[user]).replace(f":{self.broker.port}", f":{port}")

    def scaled(self, quick: float, full: float) -> float:
        """Return the size or duration that this run shall have."""
        return full if self.full else quick

    # processes ------------------------------------------------------------------------------------

    def start_daemon(self, failpoint: str = "", *, wrap: tuple[str, ...] = (), **environment: str) -> Child:
        """Start the daemon; `wrap` are the words of a program that starts it."""
        self.daemon = Child(
            [*wrap, sys.executable, "-m", "config_daemon.cli.main", "run", "--data", str(self.data)],
            {"MQTT_URL": self.url("daemon"), "CONFIG_DAEMON_FAILPOINT": failpoint, **self.environment, **environment},
            self.folder / "logs" / "daemon.log",
        )  # fmt: skip
        return self.daemon

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
        return {name: self.environment[name] for name in ("PYTHONPATH", "FAULTS_PLANT") if name in self.environment}

    def worker_lines(self, name: str) -> Path:
        """Return the file that a worker writes down what it does in."""
        return self.folder / f"{name}.jsonl"

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
            [*wrap, sys.executable, "-m", "tools.faults.traffic", str(self.data), str(self.folder / "acks" / f"{name}.jsonl"),
             name, str(rate), str(self.rng.randrange(1 << 30)), *self.services],
            {"CONFIG_DAEMON_FAILPOINT": failpoint, **self.plant}, self.folder / "logs" / f"{name}.log",
        )  # fmt: skip
        self._opened.callback(child.kill)
        return child

    def begin(self) -> None:
        """Start daemon and workers, write each service once, and wait until all of it is in force."""
        self.start_daemon()
        for name in ("edge-1", "edge-2"):
            self.start_worker(name)
        writer = self.writer()
        versions = {service: writer.write(service) for service in self.services}
        writer.close()
        self.until(lambda: self.in_force(versions), "the first versions in force")
        self.until(lambda: self.files.cache.exists(), "the cache")

    def in_force(self, versions: Mapping[str, int | None]) -> bool:
        """Tell whether all workers run these versions, or newer ones."""
        for name in self.workers:
            runs = self.versions_of(name)
            if any(runs.get(service, 0) < (version or 0) for service, version in versions.items()):
                return False
        return True

    def reports(self, name: str) -> list[dict[str, Any]]:
        """Return what a worker wrote down so far."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.worker_lines(name).read_text().split("\n")[:-1]]
        return []

    def versions_of(self, name: str) -> dict[str, int]:
        """Return the version of each service that a worker runs."""
        taken = (one for one in self.reports(name) if one.get("state") in ("applied", "deleted"))
        return {one["service"]: one["config_version"] or 0 for one in taken}

    def confirmed(self) -> bool:
        """Tell whether the broker confirmed everything that the daemon knows."""
        rows = self.view.services()
        return bool(rows) and all(row.state in ("confirmed", "deleted") for row in rows)

    def stored_versions(self) -> dict[str, int]:
        """Return the version at which each service stands in the database."""
        connection = apsw.Connection(str(self.files.database))
        try:
            return dict(connection.execute("SELECT service, version FROM service_configs"))
        finally:
            connection.close(True)

    def write_each(self) -> None:
        """Write every service once."""
        writer = self.writer()
        for service in self.services:
            writer.write(service)
        writer.close()

    def kill_daemon(self) -> None:
        """End the daemon as `kill -9` does."""
        if self.daemon is not None:
            self.daemon.kill()

    def connected(self) -> bool:
        """Tell whether the daemon that runs now said so itself, and is connected."""
        facts = self.view.daemon()
        return (
            self.daemon is not None and facts.get("pid") == self.daemon.pid and bool(facts.get("health"))
            and not self.conditions & {"broker-down", "broker-auth", "broker-tls"}
        )  # fmt: skip

    def retained_on(self, topic: str) -> bytes:
        """Return what the broker retains on one topic."""
        with RawClient(self.url("edge", direct=True), ca=self.ca) as listener:
            listener.subscribe(topic)
            return bytes(listener.wait_for_topic(topic).payload)

    @staticmethod
    def tracing(paths: Sequence[Path], injection: str) -> tuple[str, ...]:
        """Return the words of strace that do something at system calls on some paths."""
        named = [word for path in paths for word in ("-P", str(path))]
        return ("strace", "-f", "-qq", "-o", "/dev/null", *named, "-e", f"inject=all:{injection}")

    def trace(self, pid: int, paths: Sequence[Path], injection: str) -> Child:
        """Have strace do something at a running process's system calls on some paths."""
        words = [word for word in self.tracing(paths, injection) if word != "-qq"]
        tracer = Child([*words, "-p", str(pid)], {}, self.folder / "logs" / "strace.log")
        self._opened.callback(tracer.kill)
        self.until(lambda: "attached" in tracer.said or not tracer.running, "strace")
        return tracer

    def cache_is_sealed(self) -> bool:
        """Tell whether the cache is sealed with the present key alone."""
        try:
            return cache_file.load(self.files.cache, self.ground.keys.hmac_keys()[:1]) is not None
        except CacheError:
            return False

    def cache_is_new(self) -> bool:
        """Tell whether the cache holds what is stored."""
        kept = cache_file.load(self.files.cache, self.ground.keys.hmac_keys())
        versions = {name: one.fingerprint.config_version for name, one in kept.sealed.items()} if kept else {}
        return versions == self.stored_versions()

    # looking --------------------------------------------------------------------------------------

    def until(self, look: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """Look again and again until something is there.

        Raises: Unexpected.
        """
        end = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > end:
                raise Unexpected(f"not within {seconds:g} s: {what} (open: {sorted(self.conditions)})")
            time.sleep(0.01)
        return found

    def pass_time(self, seconds: float) -> None:
        """Let a fault last for a while: its duration is what is tried, nobody waits for anything."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def must(self, holds: object, what: str) -> None:
        """Fail the run unless something holds.

        Raises: Unexpected.
        """
        if not holds:
            raise Unexpected(what)

    # telling the checker --------------------------------------------------------------------------

    def note(self, kind: str, **facts: Any) -> None:
        """Write down what the checker has to know."""
        line = json.dumps({"at": time.monotonic(), "kind": kind, **facts}) + "\n"
        with (self.folder / "notes.jsonl").open("a") as notes:
            notes.write(line)

    def expect(self, *, within: float = 5.0, wire: bool = True, **health: Any) -> None:
        """Have the checker look for a health that says this, from now on; `wire`: on the broker, not only here."""
        self.note("expect", health={_LONG.get(name, name): value for name, value in health.items()}, within=within,
                  wire=wire)  # fmt: skip

    def see(self, *, within: float = 5.0, **health: Any) -> None:
        """Expect a health on the broker, and look until it is there or too late; the checker judges."""
        self.expect(within=within, **health)
        wanted = {_LONG.get(name, name): value for name, value in health.items()}
        end = time.monotonic() + within
        while time.monotonic() < end and not self._told(wanted):
            time.sleep(0.02)

    def _told(self, wanted: Mapping[str, Any]) -> bool:
        try:
            said = json.loads(self.retained_on(HEALTH))
        except (OSError, ValueError, AssertionError, Refused):
            return False
        names = [condition["name"] for condition in said["conditions"]]
        return all(value in names if name == "condition" else said[name] == value for name, value in wanted.items())

    def wrong(self, within: float = 5.0) -> None:
        """Note that from now on, and after a little time, no health may say that all is well."""
        self.note("wrong", within=within)

    def right(self) -> None:
        """Note that the fault is over."""
        self.note("right")

    def theirs(self, raw: bytes) -> bytes:
        """Note that a message is not the daemon's doing: forged, or put back."""
        self.note("theirs", sha256=hashlib.sha256(raw).hexdigest())
        return raw

    # the checker ----------------------------------------------------------------------------------

    def _start_checker(self) -> None:
        spec = self.folder / "spec.json"
        spec.touch(0o600)
        spec.write_text(json.dumps(self._spec()))
        self._checker = subprocess.Popen(
            [sys.executable, "-m", "tools.faults.checker", str(spec)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, start_new_session=True, preexec_fn=ends_with_parent(),
        )  # fmt: skip
        self._opened.callback(self._end_checker)
        assert self._checker.stdout is not None
        if self._checker.stdout.readline() != "ready\n":
            raise Unexpected("the checker did not come up")

    def _spec(self) -> dict[str, Any]:
        tls = self._conf.tls
        broker = {"host": self.broker.host, "port": self.broker.port, "user": "ear", "password": self._passwords["ear"]}
        return {
            "broker": broker | ({"ca": str(tls.ca)} if tls else {}), "health": HEALTH, "data": str(self.data),
            "keys": [bytes(self.ground.keys.public_key()).hex()], "logs": str(self.folder / "logs"),
            "notes": str(self.folder / "notes.jsonl"), "acks": str(self.folder / "acks"),
            "workers": {name: str(self.worker_lines(name)) for name in ("edge-1", "edge-2")},
            "services": self.services, "defaults": DEFAULTS, "overlays": self._overlays, "patience": self.patience,
            "scratch": str(self.folder / "scratch"), "secrets": self.secrets(),
        }  # fmt: skip

    def secrets(self) -> list[str]:
        """Return everything that must be nowhere but in `.env` and in the processes."""
        keys = self.ground.keys
        pem = [line for line in self.files.environment.read_text().splitlines() if "PRIVATE_KEY" in line]
        body = [part for line in pem for part in line.replace("\\n", "\n").split() if len(part) > 50]
        return [
            *self._passwords.values(), b64encode(bytes(keys.signer().key)).decode(), *(part.strip('"') for part in body),
            keys.find("CONFIG_MASTER_KEY_BASE64"), keys.find("LKG_HMAC_KEY_BASE64"),
        ]  # fmt: skip

    def verdict(self) -> dict[str, Any]:
        """Tell the checker that the fault is over, and return what it says."""
        assert self._checker.stdin is not None and self._checker.stdout is not None
        self._checker.stdin.write("over\n")
        self._checker.stdin.flush()
        told = self._checker.stdout.readline()
        if not told:
            raise Unexpected("the checker ended without a verdict")
        return dict(json.loads(told))

    def _end_checker(self) -> None:
        self._checker.kill()
        self._checker.communicate()


_LONG = {"status": "database_status", "mode": "operational_mode"}


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    done = subprocess.run(
        [sys.executable, "-m", "config_daemon.cli.main", "init", "--data", str(folder / "data")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unexpected(done.stderr)
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "data"


def copy_template(target: Path) -> None:
    """Make a fresh data folder: one `init` for each process, since nothing was sealed with its keys yet."""
    shutil.copytree(_template(), target, dirs_exist_ok=True)
    os.chmod(target, 0o2770)
