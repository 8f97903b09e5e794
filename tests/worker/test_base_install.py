"""The edge runs with the base installation: paho, PyNaCl, Pydantic, and nothing of the daemon's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.worker.updates import KEY, update

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path

BASE = {
    "config_daemon", "paho", "nacl", "cffi", "_cffi_backend",
    "pydantic", "pydantic_core", "typing_extensions", "annotated_types", "typing_inspection",
}
OURS = {"config_daemon.worker", "config_daemon.wire", "config_daemon.errors", "config_daemon.failpoints"}
STDLIB = sys.stdlib_module_names

class Gate:
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        allowed = parts[0] in BASE or parts[0] in STDLIB or name.startswith("_sysconfigdata_")
        if parts[0] == "config_daemon" and len(parts) > 1:
            allowed = ".".join(parts[:2]) in OURS
        if not allowed:
            raise ModuleNotFoundError(f"{name} is not in the base installation", name=name)
        return None

sys.meta_path.insert(0, Gate())

import pkgutil, importlib
import config_daemon.worker
for module in pkgutil.iter_modules(config_daemon.worker.__path__, "config_daemon.worker."):
    importlib.import_module(module.name)

from config_daemon.wire.address import BrokerAddress
from config_daemon.wire.keyring import of_key
from config_daemon.wire.keys import public_key_from_text
from config_daemon.wire.topics import Topics
from config_daemon.worker.client import Link, Subscriber
from config_daemon.worker.follow import Follower
from config_daemon.worker.keep import Keep
from config_daemon.worker.lookout import Lookout
from config_daemon.worker.trust import Trust

topics = Topics()
trust = Trust(of_key(public_key_from_text(sys.argv[2])), ["stt-worker"], topics)
applied, reports = [], []
follower = Follower(trust, Keep(Path(sys.argv[1]), trust.anchor), ["stt-worker"], topics,
                    lambda handed: applied.append(handed.values), reports.append,
                    Lookout(trust, ["stt-worker"], topics, "edge", lambda topic, raw: None), first_use="run")
follower.start()
assert follower.receive(topics.config("stt-worker"), bytes.fromhex(sys.argv[3]))
assert applied == [{"number": 1}], applied
assert [report.state for report in reports] == ["applied"], reports
Subscriber(Link(BrokerAddress.parse("mqtt://127.0.0.1:1"), "edge"), ["#"], follower.receive)._client()

try:
    import click
    raise SystemExit("the gate is open")
except ModuleNotFoundError:
    pass
print("accepted")
"""


def test_a_message_is_accepted_with_nothing_but_the_base_installation(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), bytes(KEY.verify_key).hex(), update(1).hex()],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert (ran.stdout, ran.returncode) == ("accepted\n", 0), ran.stderr
