from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from config_daemon.catalog.definition import MISSING, env_name, is_service_name


@pytest.mark.parametrize(
    ("service", "key", "name"),
    [
        ("stt-worker", "vad_threshold", "STT_WORKER__VAD_THRESHOLD"),
        ("backend-api", "database.host", "BACKEND_API__DATABASE_HOST"),
        ("router", "a.b.c", "ROUTER__A_B_C"),
    ],
)
def test_env_name_is_service_and_key_in_capitals(service, key, name):
    assert env_name(service, key) == name


@pytest.mark.parametrize("name", ["a", "stt-worker", "a" * 64, "x9-", "a--b"])
def test_service_names_that_topics_and_files_can_carry(name):
    assert is_service_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "9a", "-a", "a_b", "a.b", "a/b", "a" * 65, "a\n", "keyring", "ä", None, 3, b"a"]
)
def test_other_names_are_refused(name):
    assert not is_service_name(name)


def test_missing_stays_itself_when_copied_or_sent_to_another_process():
    assert copy.deepcopy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING  # noqa: S301 - our own bytes
    assert repr(MISSING) == "MISSING"


def test_the_command_line_pays_for_pydantic_only_when_a_model_is_asked_for(tmp_path):
    script = """
import sys
import config_daemon.catalog.definition
from config_daemon.catalog.catalog import Catalog
catalog = Catalog.load()
heavy = {"pydantic", "jsonschema_rs", "difflib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "stt-worker" in catalog.names()
assert not heavy & set(sys.modules), heavy & set(sys.modules)
catalog.get("stt-worker")
assert "pydantic" in sys.modules
assert "jsonschema_rs" not in sys.modules
shipped = [name for name in sys.modules if name.startswith("config_daemon.catalog.services.")]
assert shipped == ["config_daemon.catalog.services.stt_worker"], shipped
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_edge_worker_needs_only_the_base_dependencies():
    """A program at the edge imports a shipped model with nothing but Pydantic beside it."""
    script = """
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {"config_daemon", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}

class OnlyBase(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED | sys.stdlib_module_names and not top.startswith("_"):
            raise ImportError(f"{name} is no base dependency")

sys.meta_path.insert(0, OnlyBase())
from config_daemon.catalog.services import SHIPPED
from config_daemon.catalog.registered import shipped
for service in SHIPPED:
    assert shipped(service).fields
from config_daemon.catalog.services.stt_worker import STTWorkerConfig
assert STTWorkerConfig.model_validate({"vad_threshold": 0.6}).vad_threshold == 0.6
"""
    subprocess.run([sys.executable, "-c", script], check=True)
