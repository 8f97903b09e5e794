"""The conformance suite holds both readers, ours and the one in Node, and its files are fresh."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.keys import key_id, public_key_from_text
from config_daemon.wire.messages import HEALTH, parse_health
from config_daemon.wire.sealing import unseal
from config_daemon.wire.tail import MAX_MESSAGE_BYTES
from config_daemon.wire.topics import Topics
from config_daemon.worker.trust import Belief, Floor, Trust
from tests.wire.test_keys import NOT_CANONICAL, SMALL_ORDER
from tools import publish_wire
from tools.wire_messages import PUBLIC, Vector, body_sha256, sealed, update

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "schemas/vectors").glob("*.json"))
NAMES = [path.stem for path in FILES]
VERIFY = ROOT / "examples/verify/verify.mjs"
SEED = 20260314
Verdict = tuple[str, int | None, str | None]

# every way in which one message alone can be refused, by step
REFUSALS = {
    (1, "wiped"),
    (1, "oversize"),
    (2, "bad-tail"),
    (3, "bad-signature"),
    (4, "bad-json"),
    (5, "unknown-version"),
    (5, "wrong-key"),
    (6, "wrong-service"),
    (7, "bad-checksum"),
    (8, "keyring-behind"),
    (8, "rollback"),
    (9, "rollback"),
    (9, "fork"),
}


def load(path: Path) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads(path.read_text())
    return vector


def recorded(vector: dict[str, Any]) -> Verdict:
    return vector["verdict"], vector["step"], vector["reason"]


def python_verdict(vector: dict[str, Any]) -> tuple[Verdict, str | None]:
    """Judge as a worker does; on a health topic as a reader of health does."""
    raw = b64decode(vector["message_base64"], validate=True)
    keys = [public_key_from_text(text) for text in vector["public_keys"]]
    try:
        if vector["topic"].startswith("system/health/"):
            body, key = unseal(raw, HEALTH, keys)
            if parse_health(body).key_id != key_id(bytes(key)):
                raise RejectedUpdate("wrong-key", 5)
            return ("good", None, None), body_sha256(raw)
        floor = vector["floor"] and Floor(**vector["floor"])
        trust = Trust(keys, vector["services"], Topics("system"), vector["generation"])
        accepted = trust.judge(vector["topic"], raw, Belief(floor))
    except RejectedUpdate as refused:
        return ("rejected", refused.step, refused.reason), None
    assert accepted.again == (accepted.floor == floor)
    return ("good", None, None), accepted.floor.body_sha256


def run_node(*arguments: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is missing, and examples/verify cannot be checked: apt-get install nodejs")
    done = subprocess.run([node, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def node_verdicts(files: Iterable[Path]) -> dict[str, Verdict]:
    lines = map(json.loads, run_node(str(VERIFY), *map(str, files)).splitlines())
    return {Path(line["file"]).stem: recorded(line) for line in lines}


@pytest.fixture(scope="module")
def said_by_node() -> dict[str, Verdict]:
    return node_verdicts(FILES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_python_gives_the_recorded_verdict(path: Path) -> None:
    vector = load(path)
    verdict, sha256 = python_verdict(vector)
    assert verdict == recorded(vector)
    assert sha256 == vector.get("body_sha256")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_node_gives_the_recorded_verdict(path: Path, said_by_node: dict[str, Verdict]) -> None:
    assert said_by_node[path.stem] == recorded(load(path))


def test_the_suite_has_every_refusal_and_names_its_step() -> None:
    found = {(vector["step"], vector["reason"]) for vector in map(load, FILES)}
    assert found == REFUSALS | {(None, None)}
    for path in FILES:
        assert int(path.stem[:2]) == (load(path)["step"] or 0)
    assert sum(load(path)["verdict"] == "good" for path in FILES) >= 10


def test_both_readers_take_the_largest_message_there_may_be(tmp_path: Path) -> None:
    room = MAX_MESSAGE_BYTES - len(sealed(update(b'{"a":""}')))
    largest = Vector("largest", "", sealed(update(b'{"a":"%s"}' % (b"x" * room))))
    assert len(largest.message) == MAX_MESSAGE_BYTES
    path = tmp_path / "largest.json"
    path.write_bytes(largest.as_json())
    assert python_verdict(load(path))[0] == node_verdicts([path])["largest"] == ("good", None, None)


TOKENS = [
    *(chr(byte) for byte in b'"{}[],:\\ \n\t0159-+.eEtfn/x\x00\x1f\x7f'),
    *("\udcff", "\udcc3"),  # lone bytes: no UTF-8
    *("ü", "🎙", "\\u0000", "\\u0061", "\\ud83c", "\\ud83c\\udf99", "\\/", "\ufeff", "\u2028"),
    *("true", "null", "NaN", "Infinity", "1e400", "1.0", "-0", "1E2", "[]", "{}", '""', "[[1]]"),
    *(
        ',"version":1',
        ',"version":2',
        ',"deleted":true',
        ',"until":null',
        ',"a":{"b":[1,2.5]}',
        ',"config":{}',
    ),
]


def odd_bodies(rng: random.Random, count: int) -> Iterable[bytes]:
    """Bodies that a careless writer with the right key could sign."""
    plain = [update(), update(b"{}"), update(b'{"a":[1,2.50,"\\u00fc"],"b":{"c":null}}', deleted=None)]
    for _ in range(count):
        body = rng.choice(plain)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            start = rng.randrange(1, len(body) - 1)
            token = rng.choice(TOKENS).encode(errors="surrogateescape")
            end = rng.choice((start, start, start + 1, start + len(token)))
            body = body[:start] + token + body[min(end, len(body) - 1) :]
        yield body


def test_python_and_node_agree_about_a_thousand_odd_messages(tmp_path: Path) -> None:
    rng = random.Random(SEED)  # noqa: S311 - to be repeated, not to be secret
    python: dict[str, Verdict] = {}
    for number, body in enumerate(odd_bodies(rng, 1_000)):
        path = tmp_path / f"{number:04}.json"
        path.write_bytes(Vector("odd", "", sealed(body), refused=(0, "")).as_json())
        python[path.stem] = python_verdict(load(path))[0]
    node = node_verdicts(sorted(tmp_path.iterdir()))
    different = {name: (python[name], node[name]) for name in python if python[name] != node[name]}
    assert not different, f"seed {SEED}"
    assert {step for _, step, _ in python.values()} >= {None, 4, 5, 6, 7}


def test_node_refuses_the_keys_that_prove_nothing() -> None:
    script = (
        f"import {{ loadKey }} from {json.dumps(VERIFY.with_name('judge.mjs').as_uri())};"
        "const loads = (hex) => { try { loadKey(hex); return true; } catch { return false; } };"
        "console.log(JSON.stringify(process.argv.slice(1).map(loads)));"
    )
    bad = [key.hex() for key in SMALL_ORDER + NOT_CANONICAL] + ["", "00", "zz" * 32]
    good = list(PUBLIC.values())
    loaded = json.loads(run_node("--input-type=module", "--eval", script, "--", *bad, *good))
    assert loaded == [False] * len(bad) + [True] * len(good)


def test_the_published_files_are_fresh() -> None:
    command = [sys.executable, str(ROOT / "tools/publish_wire.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_is_stale_missing_or_left_over_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_wire.main([], tmp_path)
    assert publish_wire.main(["--check"], tmp_path) == 0
    vectors = tmp_path / "schemas/vectors"
    (vectors / "00-good-plain.json").write_text("{}")
    (vectors / "01-wiped.json").unlink()
    (vectors / "renamed.json").write_text("{}")
    (vectors / "README.md").write_text("by hand")
    assert publish_wire.main(["--check"], tmp_path) == 1
    named = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert named == [f"schemas/vectors/{name}.json" for name in ("00-good-plain", "01-wiped", "renamed")]
    publish_wire.main([], tmp_path)
    assert publish_wire.main(["--check"], tmp_path) == 0
    assert not (vectors / "renamed.json").exists()
    assert (vectors / "README.md").read_text() == "by hand"


def test_the_readme_names_the_keys_that_the_vectors_use() -> None:
    text = (ROOT / "schemas/vectors/README.md").read_text()
    used = {key for path in FILES for key in load(path)["public_keys"]}
    assert used <= set(PUBLIC.values())
    for public_key in PUBLIC.values():
        assert f"`{public_key}` | `{key_id(bytes.fromhex(public_key))}`" in text


@pytest.mark.parametrize("body_type", ["config-update", "health"])
def test_the_schemas_accept_what_is_good_and_refuse_what_is_misshapen(body_type: str) -> None:
    schema = json.loads((ROOT / f"schemas/wire/{body_type}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert all("description" in field for field in schema["properties"].values())
    validator = Draft202012Validator(schema)
    judged: dict[str, bool] = {}
    for path in FILES:
        vector = load(path)
        of_health = vector["topic"].startswith("system/health/")
        if of_health == (body_type == "health") and (vector["verdict"] == "good" or "bad-json" in path.stem):
            judged[path.stem] = validator.is_valid(parsed_loosely(b64decode(vector["message_base64"])))
    # what is beyond a schema: how the text is spelled, and members that must agree with each other
    beyond = {
        "comma",
        "control",
        "duplicate",
        "duplicate-escaped",
        "duplicate-nested",
        "float",
        "nan",
        "number",
    }
    beyond |= {"overflow", "rest", "surrogate", "tombstone", "until", "utf-8"}
    for name, valid in judged.items():
        if not any(name == f"04-bad-json-{word}" for word in beyond):
            assert valid == name.startswith("00-good"), name


def parsed_loosely(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
