"""The examples of docs/worker.md, as a user has them: an installed wheel, its dependencies, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.e2e.house import House, Process, until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/python"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with our wheel and what it requires without extras."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=60
    )
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
        (metadata,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        required = required_in(archive.read(metadata).decode())
    for name in closure(required):
        for file in tops(name):
            if not (packages / file.name).exists():
                (packages / file.name).symlink_to(file)
    return folder / "venv/bin/python"


def required_in(metadata: str) -> list[str]:
    found = re.findall(r"^Requires-Dist: ([\w.-]+)(.*)$", metadata, re.MULTILINE)
    return [name for name, rest in found if "extra ==" not in rest]


def closure(names: list[str]) -> Iterator[str]:
    """Yield these distributions and all that they require, as this environment has them."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            required = "".join(f"Requires-Dist: {one}\n" for one in distribution(name).requires or [])
            waiting += required_in(required)


def tops(name: str) -> set[Path]:
    """Return the files and folders that a distribution has in `site-packages`."""
    found = distribution(name)
    names = {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}
    return {Path(str(found.locate_file(name))) for name in names}


def test_an_environment_with_the_wheel_has_nothing_of_the_daemons(python: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util, config_daemon.worker as worker\n"
        "worker.ConfigClient, worker.AsyncConfigClient\n"
        "print([name for name in ('apsw', 'click', 'cryptography') if importlib.util.find_spec(name)])\n"
        "print((importlib.resources.files('config_daemon') / 'py.typed').is_file())\n"
    )
    done = subprocess.run(
        [python, "-I", "-c", "import importlib.resources\n" + program],
        capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout == "[]\nTrue\n", done.stderr


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_applies_a_change(python: Path, house: House, tmp_path: Path, example: Path) -> None:
    house.set("stt-worker", vad_threshold=0.5)
    house.daemon()
    worker = Process(
        ["env", "-C", str(tmp_path), str(python), str(example)],
        {
            "MQTT_URL": house.broker_url,
            "CONFIG_SIGNATURE_PUBLIC_KEY": house.public_key,
            "PYTHONPATH": "",
        },
    )
    try:
        until(lambda: worker.lines, f"the first config; it said: {worker.talk}")
        house.set("stt-worker", vad_threshold=0.25)
        until(lambda: len(worker.lines) > 1, f"a change; it said: {worker.talk}")
    finally:
        worker.kill()
    assert worker.lines[1].startswith("stt-worker changed vad_threshold: ")
    assert "'vad_threshold': 0.25" in worker.lines[1]
    assert (tmp_path / "state/worker.public.json").is_file()


def test_the_examples_are_those_of_the_page() -> None:
    page = (ROOT / "docs/worker.md").read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f"```python\n{example.read_text()}```" in page, (
            f"{example.name} is not in docs/worker.md as it is"
        )
