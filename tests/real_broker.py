"""Real MQTT brokers that a test may stop, kill, wipe and freeze: local, in Docker, or somebody's own.

Laws: port and persistence folder stay the same over stop and start; a start returns when connections
are accepted, and fails with the broker's own words; a broker never outlives the test process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from config_daemon.cli.private_broker import accepts, ends_with_parent, reserve_port
from config_daemon.cli.private_broker_files import HOST
from config_daemon.wire.address import BrokerAddress
from tests.broker_conf import Conf, conf_text
from tests.raw_client import RawClient

IMAGE = "eclipse-mosquitto:2.0"
START_SECONDS = 10.0
LOOK_SECONDS = 0.002
# Linux ends a child with the *thread* that started it. This one lives as long as the process, so that
# a test may restart its broker from a thread of its own.
_SPAWNER = ThreadPoolExecutor(1, thread_name_prefix="broker-spawner")


class Broker(ABC):
    """A broker that listens on `host`:`port`; `url` has no credentials."""

    host = HOST
    port: int
    scheme = "mqtt"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def url_for(self, user: str, password: str) -> str:
        """Where it is, for one user."""
        return f"{self.scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{self.host}:{self.port}"

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process, as this machine numbers it."""

    @abstractmethod
    def start(self) -> None:
        """Start it again: same port, same persistence folder."""

    @abstractmethod
    def stop(self) -> None:
        """End it politely; it writes its persistence file."""

    @abstractmethod
    def kill(self) -> None:
        """End it as `kill -9` does."""

    @abstractmethod
    def wipe(self) -> None:
        """Stop it, delete what it kept, start it."""

    @abstractmethod
    def suspend(self) -> None:
        """Freeze it: connections stay open and nothing answers."""

    @abstractmethod
    def resume(self) -> None:
        """Thaw it."""

    @abstractmethod
    def close(self) -> None:
        """End it for good."""


class OwnBroker(Broker):
    """A mosquitto of ours, configured by files in `folder`."""

    def __init__(self, folder: Path, conf: Conf) -> None:
        self.folder, self.conf_file, self.log = folder, folder / "mosquitto.conf", folder / "broker.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._opened = contextlib.ExitStack()
        self.port = reserve_port(self._opened)
        self.scheme = "mqtts" if conf.tls or (conf.text and "certfile" in conf.text) else "mqtt"
        self.conf_file.write_text(conf_text(folder, self.port, conf))
        self.start()

    def wipe(self) -> None:
        self.stop()
        (self.folder / "mosquitto.db").unlink(missing_ok=True)
        self.start()

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not accepts(HOST, self.port):
            if self._ended(LOOK_SECONDS) or time.monotonic() > deadline:
                words = self._words()
                self.close()
                raise AssertionError(f"the broker did not start:\n{words}")

    @abstractmethod
    def _ended(self, seconds: float) -> bool:
        """Wait up to `seconds` for its end, and tell whether it has ended."""

    @abstractmethod
    def _words(self) -> str:
        """What it said so far."""


class LocalBroker(OwnBroker):
    """A mosquitto that is a child of this process."""

    def __init__(self, program: str, folder: Path, conf: Conf) -> None:
        self._program = program
        super().__init__(folder, conf)

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = _SPAWNER.submit(
                subprocess.Popen,
                [self._program, "-c", str(self.conf_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=ends_with_parent(),
            ).result()
        self._wait_until_listening()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        self._process.wait(timeout=START_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=START_SECONDS)

    def suspend(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        self._opened.close()

    def _ended(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def _words(self) -> str:
        return self.log.read_text(errors="replace")


class DockerBroker(OwnBroker):
    """A mosquitto in a container that shares this machine's network and the folder's path."""

    def __init__(self, folder: Path, conf: Conf, image: str = IMAGE) -> None:
        from testcontainers.core.container import DockerContainer  # 0.4 s that a local broker saves

        folder.mkdir(parents=True, exist_ok=True)
        # The caller's user: files stay ours to delete, and mosquitto need not change its user.
        self._run: Any = (
            DockerContainer(image)
            .with_command(["mosquitto", "-c", str(folder / "mosquitto.conf")])
            .with_volume_mapping(folder, str(folder), "rw")
            .with_kwargs(network_mode="host", user=f"{os.geteuid()}:{os.getegid()}")
        )
        self._container: Any = None
        super().__init__(folder, conf)

    @property
    def pid(self) -> int:
        self._container.reload()
        return int(self._container.attrs["State"]["Pid"])

    def start(self) -> None:
        if self._container is None:
            self._container = self._run.start().get_wrapped_container()
        else:
            self._container.start()
        self._wait_until_listening()

    def stop(self) -> None:
        self.resume()
        self._container.stop()

    def kill(self) -> None:
        self._container.kill()
        self._container.wait()

    def suspend(self) -> None:
        self._container.pause()

    def resume(self) -> None:
        self._container.reload()
        if self._container.status == "paused":
            self._container.unpause()

    def close(self) -> None:
        self._run.stop()
        self._opened.close()

    def _ended(self, seconds: float) -> bool:
        time.sleep(seconds)
        self._container.reload()
        return self._container.status not in ("created", "running")

    def _words(self) -> str:
        return bytes(self._container.logs()).decode(errors="replace")


class ExternalBroker(Broker):
    """Somebody's own broker: empty before, emptied after; nobody stops it from here."""

    def __init__(self, url: str) -> None:
        address = BrokerAddress.parse(url)
        self.host, self.port, self.scheme, self._url = address.host, address.port, address.scheme, url
        if kept := self._retained():
            raise AssertionError(f"the broker {address} is not empty ({kept[0]} …): tests would harm it")

    @property
    def url(self) -> str:
        return self._url

    @property
    def pid(self) -> int:
        self._refuse()

    def start(self) -> None:
        self._refuse()

    stop = kill = suspend = resume = start

    def wipe(self) -> None:
        kept = self._retained()
        with RawClient(self._url) as client:
            for topic in kept:
                client.publish(topic, b"", retain=True)

    def close(self) -> None:
        self.wipe()

    def _retained(self) -> list[str]:
        mark = f"config-daemon-test/{uuid.uuid4()}"
        with RawClient(self._url) as client:
            client.subscribe("#")
            client.publish(mark, b"the last one")
            client.wait_for_topic(mark)
            return [message.topic for message in client.messages if message.retain]

    def _refuse(self) -> NoReturn:
        raise AssertionError("this test stops its broker: run it with CONFIG_DAEMON_TEST_BROKER=local")
