"""The agent runs with its own extra: what a worker needs, Jinja2 and tomli-w, and nothing of the daemon's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys

ALLOWED = {
    "config_daemon", "paho", "nacl", "cffi", "_cffi_backend", "jinja2", "markupsafe", "tomli_w",
    "pydantic", "pydantic_core", "typing_extensions", "annotated_types", "typing_inspection",
}
OURS = {"agent", "worker", "wire", "errors", "failpoints", "logs", "notify", "yaml_writing"}

class Gate:
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        allowed = parts[0] in ALLOWED or parts[0] in sys.stdlib_module_names or name.startswith("_sysconfigdata_")
        if parts[0] == "config_daemon" and len(parts) > 1:
            allowed = parts[1] in OURS
        if not allowed:
            raise ModuleNotFoundError(f"{name} is not installed at the edge", name=name)
        return None

sys.meta_path.insert(0, Gate())
from config_daemon.agent.main import main
try:
    import click
    raise SystemExit("the gate is open")
except ModuleNotFoundError:
    pass
sys.exit(main(sys.argv[1:]))
"""


def test_it_runs_with_nothing_but_its_own_extra(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    (tmp_path / "x.j2").write_text("{{ x }}")
    arguments = [
        "--service", "stt-worker", "--render", f"{tmp_path}/x.j2:{tmp_path}/x", "--render", f"toml:{tmp_path}/y",
        "--public-key", str(key), "--state", str(tmp_path / "state"), "--broker", "mqtt://127.0.0.1:1",
    ]  # fmt: skip
    for more, code in ((["check"], 0), (["--once", "--timeout", "0.1"], 69)):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *more, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
