"""The conformance suite holds both readers, ours and the one in Node, and its files are fresh."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from config_daemon.errors import RejectedUpdate
from config_daemon.wire.beacon import Beacon, list_digest, parse_beacon, shard_of
from config_daemon.wire.convergence import CONVERGENCE, parse_convergence
from config_daemon.wire.keyring import installed_keyring
from config_daemon.wire.keys import key_id, public_key_from_text
from config_daemon.wire.messages import HEALTH, parse_health
from config_daemon.wire.sealing import unseal
from config_daemon.wire.status import read_status
from config_daemon.wire.tail import MAX_MESSAGE_BYTES, TAIL_BYTES
from config_daemon.wire.topics import Topics
from config_daemon.worker.trust import Belief, Floor, Trust
from tests.keyrings import ring_of
from tests.wire.test_keys import NOT_CANONICAL, SMALL_ORDER
from tools import publish_wire
from tools.beacon_vectors import BEACON_TOPIC, CAMERA, SHARD_TOPIC, beacon, lit
from tools.keyring_messages import HELD, KEYRING_TOKENS, KEYRING_TOPIC, ODD_KEYRINGS, ring, signed
from tools.odd_bodies import BEACON_TOKENS, ODD_BEACONS, ODD_UPDATES, TOKENS, odd_bodies
from tools.status_messages import (
    CONVERGENCE_TOPIC,
    ODD_CONVERGENCES,
    ODD_STATUSES,
    STATUS_TOKENS,
    STATUS_TOPIC,
)
from tools.wire_messages import PUBLIC, TOPIC, Vector, body_sha256, sealed, update

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "schemas/vectors").glob("*.json"))
NAMES = [path.stem for path in FILES]
TOPICS = Topics("system")
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
    (5, "revoked-key"),
    (6, "wrong-service"),
    (7, "bad-checksum"),
    (8, "keyring-behind"),
    (8, "rollback"),
    (9, "rollback"),
    (9, "fork"),
    (8, "fork"),
    (8, "unrevoked"),
}
OF_KEYRINGS_ONLY = {(8, "fork"), (8, "unrevoked")}


def body_type(vector: dict[str, Any]) -> str:
    """Return as what a message is judged: its topic decides."""
    if TOPICS.is_beacon(vector["topic"]):
        return "beacon"
    if TOPICS.is_keyring(vector["topic"]):
        return "keyring"
    named = vector["topic"].split("/")[1]
    return named if named in ("health", "status", "convergence") else "config-update"


def load(path: Path) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads(path.read_text())
    return vector


def recorded(vector: dict[str, Any]) -> Verdict:
    return vector["verdict"], vector["step"], vector["reason"]


def trust_of(vector: dict[str, Any]) -> Trust:
    """Believe the keys or the keyring that a reader was given, and the keyrings that it took since."""
    keys = [public_key_from_text(text) for text in vector["public_keys"]]
    taken = [b64decode(text, validate=True) for text in vector.get("keyrings_base64", [])]
    generation = 1 if taken else vector["generation"]
    start = ring_of(*keys, generation=generation) if keys else installed_keyring(taken.pop(0))
    trust = Trust(start, vector["services"], TOPICS)
    for raw in taken:
        trust.hold(trust.follow(raw))
    assert trust.keyring.generation == vector["generation"]
    return trust


def python_verdict(vector: dict[str, Any]) -> tuple[Verdict, str | None]:
    """Judge as a worker does; on a health topic as a reader of health does; also return the body's digest."""
    raw = b64decode(vector["message_base64"], validate=True)
    trust = trust_of(vector)
    try:
        if body_type(vector) == "keyring":
            shown = trust.follow(raw)
            assert (shown is trust.keyring) == vector.get("known")
            return ("good", None, None), shown.sha256
        if body_type(vector) == "beacon":
            trust.beacon(vector["topic"], raw)
            return ("good", None, None), body_sha256(raw)
        if body_type(vector) == "health":
            body, key = unseal(raw, HEALTH, trust.keyring.config_keys)
            if parse_health(body).key_id != key_id(bytes(key)):
                raise RejectedUpdate("wrong-key", 5)
            return ("good", None, None), body_sha256(raw)
        if body_type(vector) == "status":
            said = TOPICS.status_about(vector["topic"])
            assert said is not None
            (key,) = trust.keyring.config_keys  # the one that was enrolled for this worker
            read_status(raw, *said, key, key_id(bytes(key)))
            return ("good", None, None), body_sha256(raw)
        if body_type(vector) == "convergence":
            return python_verdict_of_convergence(raw, vector, trust), body_sha256(raw)
        floor = vector["floor"] and Floor(**vector["floor"])
        accepted = trust.judge(vector["topic"], raw, Belief(floor))
    except RejectedUpdate as refused:
        return ("rejected", refused.step, refused.reason), None
    assert accepted.again == (accepted.floor == floor)
    return ("good", None, None), accepted.floor.body_sha256


def python_verdict_of_convergence(raw: bytes, vector: dict[str, Any], trust: Trust) -> Verdict:
    body, key = unseal(raw, CONVERGENCE, trust.keyring.config_keys)
    read = parse_convergence(body)
    if read.key_id != key_id(bytes(key)):
        raise RejectedUpdate("wrong-key", 5)
    if read.service != TOPICS.convergence_of(vector["topic"]):
        raise RejectedUpdate("wrong-service", 6)
    return "good", None, None


def run_node(*arguments: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is missing, and examples/verify cannot be checked: apt-get install nodejs")
    done = subprocess.run([node, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def node_lines(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    lines = map(json.loads, run_node(str(VERIFY), *map(str, files)).splitlines())
    return {Path(line["file"]).stem: line for line in lines}


def node_verdicts(files: Iterable[Path]) -> dict[str, Verdict]:
    return {name: recorded(line) for name, line in node_lines(files).items()}


@pytest.fixture(scope="module")
def said_by_node() -> dict[str, dict[str, Any]]:
    return node_lines(FILES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_python_gives_the_recorded_verdict(path: Path) -> None:
    vector = load(path)
    verdict, sha256 = python_verdict(vector)
    assert verdict == recorded(vector)
    assert sha256 == vector.get("body_sha256")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_node_gives_the_recorded_verdict(path: Path, said_by_node: dict[str, dict[str, Any]]) -> None:
    assert recorded(said_by_node[path.stem]) == recorded(load(path))
    assert said_by_node[path.stem].get("known") == load(path).get("known")


def test_both_readers_find_the_digest_by_which_a_beacon_names_a_shard(
    said_by_node: dict[str, dict[str, Any]],
) -> None:
    digests = {path.stem: load(path).get("list_sha256") for path in FILES}
    assert digests == {name: line.get("list_sha256") for name, line in said_by_node.items()}
    lists = {path.stem: read_beacon(path) for path in FILES if digests[path.stem]}
    assert {name: list_digest(one.services) for name, one in lists.items()} == {
        name: digest for name, digest in digests.items() if digest
    }
    named = read_beacon(ROOT / "schemas/vectors/00-good-beacon-sharded.json").shards
    assert named and named[shard_of("stt-worker")] == digests["00-good-beacon-shard"]


def read_beacon(path: Path) -> Beacon:
    raw = b64decode(load(path)["message_base64"])
    return parse_beacon(raw[:-TAIL_BYTES] + b"}")


def test_the_suite_has_every_refusal_and_names_its_step() -> None:
    found = {(vector["step"], vector["reason"]) for vector in map(load, FILES)}
    assert found == REFUSALS | {(None, None)}
    for path in FILES:
        assert int(path.stem[:2]) == (load(path)["step"] or 0)
    assert sum(load(path)["verdict"] == "good" for path in FILES) >= 10
    of = {
        kind: {(v["step"], v["reason"]) for v in map(load, FILES) if body_type(v) == kind} - {(None, None)}
        for kind in ("config-update", "beacon", "keyring", "status", "convergence")
    }
    order = {(7, "bad-checksum"), (9, "rollback"), (9, "fork")}
    assert of["config-update"] == REFUSALS - OF_KEYRINGS_ONLY
    assert of["beacon"] == REFUSALS - OF_KEYRINGS_ONLY - order - {(1, "oversize")}
    lacking = {(1, "oversize"), (6, "wrong-service"), (8, "keyring-behind")}
    assert of["keyring"] == REFUSALS - order - lacking
    early = {(step, reason) for step, reason in REFUSALS if step <= 6} - {(5, "revoked-key")}
    assert of["status"] == early
    assert of["convergence"] == early - {(1, "oversize")}


def test_both_readers_take_the_largest_message_there_may_be(tmp_path: Path) -> None:
    room = MAX_MESSAGE_BYTES - len(sealed(update(b'{"a":""}')))
    largest = Vector("largest", "", sealed(update(b'{"a":"%s"}' % (b"x" * room))))
    assert len(largest.message) == MAX_MESSAGE_BYTES
    path = tmp_path / "largest.json"
    path.write_bytes(largest.as_json())
    assert python_verdict(load(path))[0] == node_verdicts([path])["largest"] == ("good", None, None)


def test_both_readers_take_the_largest_list_there_may_be_and_none_that_is_larger(tmp_path: Path) -> None:
    services = {f"service-{number:05}": [number + 1, CAMERA] for number in range(11_000)}
    room = MAX_MESSAGE_BYTES - len(lit(beacon(services=services, zone="")))
    for name, more in (("largest", 0), ("larger", 1)):
        raw = lit(beacon(services=services, zone="x" * (room + more)))
        assert len(raw) == MAX_MESSAGE_BYTES + more
        vector = Vector(name, "", raw, (1, "oversize") if more else None, topic=BEACON_TOPIC)
        (tmp_path / f"{name}.json").write_bytes(vector.as_json())
    node = node_verdicts(sorted(tmp_path.iterdir()))
    assert node == {path.stem: python_verdict(load(path))[0] for path in tmp_path.iterdir()}
    assert node == {"largest": ("good", None, None), "larger": ("rejected", 1, "oversize")}


def test_both_readers_take_the_largest_keyring_there_may_be_and_none_that_is_larger(tmp_path: Path) -> None:
    room = MAX_MESSAGE_BYTES - len(signed(ring(zone="")))
    for name, more in (("largest", 0), ("larger", 1)):
        raw = signed(ring(zone="x" * (room + more)))
        vector = Vector(name, "", raw, (1, "oversize") if more else None, topic=KEYRING_TOPIC, known=False)
        (tmp_path / f"{name}.json").write_bytes(vector.as_json())
    node = node_verdicts(sorted(tmp_path.iterdir()))
    assert node == {path.stem: python_verdict(load(path))[0] for path in tmp_path.iterdir()}
    assert node == {"largest": ("good", None, None), "larger": ("rejected", 1, "oversize")}


def test_node_takes_no_keyring_as_an_anchor_that_does_not_vouch_for_itself(tmp_path: Path) -> None:
    for number, installed in enumerate((signed(ring(keys=json.loads(HELD)["keys"])), HELD[:-4] + b'A"}')):
        vector = Vector("installed", "", HELD, topic=KEYRING_TOPIC, keys=(), keyrings=(installed,))
        path = tmp_path / f"{number}.json"
        path.write_bytes(vector.as_json())
        with pytest.raises(RejectedUpdate):
            trust_of(load(path))
        with pytest.raises(AssertionError):
            node_verdicts([path])


@pytest.mark.parametrize(
    ("plain", "tokens", "where", "steps"),
    [
        (ODD_UPDATES, TOKENS, {}, {None, 4, 5, 6, 7}),
        (ODD_BEACONS, BEACON_TOKENS, {"topic": BEACON_TOPIC}, {None, 4, 5, 6}),
        (ODD_BEACONS, BEACON_TOKENS, {"topic": SHARD_TOPIC}, {None, 4, 5, 6}),
        (ODD_KEYRINGS, TOKENS + KEYRING_TOKENS, {"topic": KEYRING_TOPIC, "known": False}, {None, 4, 5}),
        (ODD_STATUSES, TOKENS + STATUS_TOKENS, {"topic": STATUS_TOPIC, "keys": ("beta",)}, {None, 4, 5, 6}),
        (ODD_CONVERGENCES, TOKENS + STATUS_TOKENS, {"topic": CONVERGENCE_TOPIC}, {None, 4, 5, 6}),
    ],
    ids=["config-update", "beacon", "shard", "keyring", "status", "convergence"],
)
def test_python_and_node_agree_about_a_thousand_odd_messages(
    plain: list[bytes],
    tokens: list[str],
    where: dict[str, Any],
    steps: set[int | None],
    tmp_path: Path,
) -> None:
    rng = random.Random(SEED)  # noqa: S311 - to be repeated, not to be secret
    python: dict[str, Verdict] = {}
    for number, body in enumerate(islice(odd_bodies(rng, plain, tokens), 1_000)):
        path = tmp_path / f"{number:04}.json"
        signer = where.get("keys", ("alpha",))[0]
        raw = sealed(body, by=signer, as_type=body_type({"topic": TOPIC, **where}))
        path.write_bytes(Vector("odd", "", raw, (0, ""), **where).as_json())
        python[path.stem] = python_verdict(load(path))[0]
    node = node_verdicts(sorted(tmp_path.iterdir()))
    different = {name: (python[name], node[name]) for name in python if python[name] != node[name]}
    assert not different, f"seed {SEED}"
    assert {step for _, step, _ in python.values()} >= steps


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


# what is beyond a schema: how the text is spelled, and members that must agree with each other
BEYOND_SCHEMAS = {
    *("comma", "control", "duplicate", "duplicate-escaped", "duplicate-nested", "float", "nan", "number"),
    *("overflow", "rest", "surrogate", "tombstone", "until", "utf-8"),
    *("beacon-duplicate", "beacon-duplicate-escaped", "beacon-duplicate-service", "beacon-nan"),
    *("beacon-number-exponent", "beacon-number-float", "beacon-sequence-float"),
    *("beacon-digest-newline", "beacon-name-newline"),  # to Python's `$`, not to that of JSON Schema
    *("keyring-duplicate", "keyring-duplicate-escaped", "keyring-duplicate-roles", "keyring-number-nan"),
    *("keyring-number-float", "keyring-number-exponent", "keyring-generation-float", "keyring-rest"),
    *("keyring-surrogate", "keyring-key-newline", "keyring-key-twice", "keyring-revoked-twice"),
    *("keyring-no-root", "keyring-no-config", "keyring-root-upper", "keyring-five-config-keys"),
    *("status-duplicate", "status-duplicate-nested", "status-duplicate-escaped", "status-nan", "status-rest"),
    *("status-surrogate", "status-boot-float", "status-boot-exponent"),
    *("convergence-duplicate", "convergence-count-float"),
}


@pytest.mark.parametrize("kind", ["config-update", "health", "beacon", "keyring", "status", "convergence"])
def test_the_schemas_accept_what_is_good_and_refuse_what_is_misshapen(kind: str) -> None:
    schema = json.loads((ROOT / f"schemas/wire/{kind}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert all("description" in field for field in schema["properties"].values())
    validator = Draft202012Validator(schema)
    judged: dict[str, bool] = {}
    for path in FILES:
        vector = load(path)
        if body_type(vector) == kind and (vector["verdict"] == "good" or "bad-json" in path.stem):
            judged[path.stem] = validator.is_valid(parsed_loosely(b64decode(vector["message_base64"])))
    for name, valid in judged.items():
        if name.removeprefix("04-bad-json-") not in BEYOND_SCHEMAS:
            assert valid == name.startswith("00-good"), name


def parsed_loosely(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
