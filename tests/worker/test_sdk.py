"""A program on `ConfigClient`: typed configs in, verdicts and statuses out, on a real broker."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, Secret, SecretStr, field_validator

from config_daemon.errors import InvalidConfig, KeyUnavailable, SettingsError, UsageError
from config_daemon.wire.status import Status
from config_daemon.worker import Change, ConfigClient, RestartNeeded, RolledBack, client, sdk
from config_daemon.worker.identity import KEYS
from config_daemon.worker.typed import validator
from tests.broker_fixtures import BrokerFactory, ClientFactory
from tests.broker_proxy import Proxy
from tests.e2e.house import until
from tests.real_broker import Broker
from tests.worker.scene import PUBLIC_KEY, Program, Source
from tests.worker.speaking import told
from tests.worker.updates import SERVICE, TOPICS


class Vad(BaseModel):
    """A section."""

    model_config = ConfigDict(extra="forbid")
    threshold: float = Field(ge=0, le=1)
    token: SecretStr | None = None


class Config(BaseModel):
    """What the program of these tests takes."""

    model_config = ConfigDict(strict=True, extra="forbid")
    number: int
    mode: Literal["fast", "good"] = "good"
    vad: Vad | None = None


@pytest.fixture(autouse=True)
def _try_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(client, "RETRY_LAST_SECONDS", 0.1)


@pytest.fixture
def source(broker: Broker, raw_client: ClientFactory) -> Source:
    return Source(raw_client(broker))


@pytest.fixture
def program(broker: Broker, tmp_path: Path) -> Callable[..., Program]:
    def make(**options: Any) -> Program:
        return Program(options.pop("folder", tmp_path / "state"), options.pop("url", broker.url), **options)

    return make


def runs(sequence: int) -> Callable[[Status], bool]:
    return lambda status: status.running is not None and status.running.sequence == sequence


def attempt(state: str) -> Callable[[Status], bool]:
    return lambda status: status.last_attempt is not None and status.last_attempt.state == state


def raising(error: BaseException) -> object:
    raise error


# changes ------------------------------------------------------------------------------------------


def test_a_change_has_old_and_new_values_typed_and_names_what_differs(
    source: Source, program: Callable[..., Program]
) -> None:
    first = source.config({"number": 1, "vad": {"threshold": 0.5}})
    with program(model=Config) as edge:
        change = edge.next()
        assert (change.service, change.old, change.keys) == (SERVICE, None, ("number", "vad.threshold"))
        assert change.new == Config(number=1, vad=Vad(threshold=0.5))
        assert (change.update.sequence, change.update.source) == (first, "broker")
        source.config({"number": 1, "mode": "fast", "vad": {"threshold": 0.75}})
        change = edge.next()
        assert (change.old.vad.threshold, change.new.vad.threshold) == (0.5, 0.75)
        assert change.keys == ("mode", "vad.threshold")
        edge.verdict("applied"), edge.verdict("applied")
        assert edge.client.values() == change.new


def test_without_a_class_values_are_plain_and_what_the_program_does_to_them_is_its_own_business(
    source: Source, program: Callable[..., Program]
) -> None:
    source.config({"number": 1, "list": [1]})
    with program() as edge:
        edge.next().new["list"].append(2)
        source.config({"number": 2, "list": [1]})
        change = edge.next()
        assert (change.keys, change.new) == (("number",), {"number": 2, "list": [1]})


def test_several_services_have_their_own_classes_and_statuses(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    first, second = source.config({"number": 1}), source.config({"volume": 2}, "global")
    with program(services={SERVICE: Config, "global": None}) as edge:
        changes = {change.service: change.new for change in (edge.next(), edge.next())}
        assert changes == {SERVICE: Config(number=1), "global": {"volume": 2}}
        edge.verdict("applied"), edge.verdict("applied")
        assert edge.client.values("global") == {"volume": 2}
        assert source.status(tmp_path / "state", runs(first)).service == SERVICE
        assert source.status(tmp_path / "state", runs(second), "global").service == "global"
        with pytest.raises(UsageError, match="router"):
            edge.client.values("router")


def test_without_a_broker_the_kept_config_is_handed_over_typed_in_under_a_second(
    source: Source, program: Callable[..., Program], proxy: Proxy
) -> None:
    source.config({"number": 1})
    with program(model=Config, url=proxy.url) as edge:
        edge.next()
    proxy.refuse()
    began = time.monotonic()
    with program(model=Config, url=proxy.url) as edge:
        assert edge.client.wait_for(SERVICE, 1.0) == Config(number=1)
        assert time.monotonic() - began < 1.0
        assert edge.next().update.source == "cache"
        edge.note("no connection")


def test_callbacks_come_in_one_thread_one_after_the_other(
    source: Source, program: Callable[..., Program]
) -> None:
    threads: list[int] = []
    edge = program(services=[SERVICE, "global"])
    edge.on_apply = lambda change: threads.append(threading.get_ident())
    with edge:
        for number in range(1, 4):
            source.config({"number": number})
            source.config({"number": number}, "global")
            edge.next()
            edge.next()
    assert len(threads) == 6 and len(set(threads)) == 1


def test_without_a_limit_callbacks_come_in_the_thread_of_run(
    source: Source, program: Callable[..., Program]
) -> None:
    source.config({"number": 1})
    edge = program(apply_seconds=None)
    seen: list[int] = []

    def once(change: Change) -> None:
        seen.append(threading.get_ident())
        edge.client.stop()

    edge.on_apply = once
    assert edge.client.run() == "stopped"
    assert seen == [threading.get_ident()]


# when it fails ------------------------------------------------------------------------------------


def test_an_apply_that_raises_keeps_the_config_before_and_says_why(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    first = source.config({"number": 1})
    edge = program()
    with edge:
        edge.next()
        edge.on_apply = lambda change: 1 / 0
        source.config({"number": 2})
        (error,) = edge.verdict("rejected").errors
        assert error.message == "ZeroDivisionError: division by zero", "`apply-failed` says the rest"
        status = source.status(tmp_path / "state", attempt("rejected"))
        assert told(status) == (first, first + 2, "rejected", "apply-failed")
        assert edge.client.values() == {"number": 1}
        edge.on_apply = lambda change: None
        source.config({"number": 3})
        assert edge.next().old == {"number": 1}


class Unsayable(Exception):
    """An exception of a library with a slip in it."""

    def __str__(self) -> str:
        raise IndexError


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unsayable(), "rejected"),
        (RolledBack("went back", None), "rolled-back"),  # type: ignore[arg-type]
        (RolledBack("went back", "no", ["in words"]), "rolled-back"),  # type: ignore[list-item]
    ],
)
def test_whatever_apply_raises_becomes_a_verdict(
    source: Source, program: Callable[..., Program], error: Exception, state: str
) -> None:
    edge = program()
    edge.on_apply = lambda change: raising(error)
    with edge:
        source.config({"number": 1})
        assert edge.verdict(state).errors
        edge.on_apply = lambda change: None
        source.config({"number": 2})
        assert edge.next().new == {"number": 2}


def test_a_report_or_a_note_that_fails_does_not_end_the_client(
    source: Source, broker: Broker, tmp_path: Path, proxy: Proxy
) -> None:
    def fails(_told: object) -> None:
        raise OSError("the metrics server is away")

    made = ConfigClient(
        SERVICE, worker="edge", broker=proxy.url, state=tmp_path, public_key=PUBLIC_KEY, report=fails, note=fails,
    )  # fmt: skip
    proxy.refuse()
    with made:
        source.config({"number": 1})
        proxy.heal()
        assert made.wait_for(timeout=5) == {"number": 1}
        second = source.config({"number": 2})
        source.status(tmp_path, runs(second))


def test_a_program_that_rolled_back_is_told_as_that(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    edge = program()

    def taken(change: Change) -> None:
        raise RolledBack("nothing answers on port 80", reason="probe-failed")

    edge.on_apply = taken
    with edge:
        source.config({"number": 1})
        status = source.status(tmp_path / "state", attempt("rolled-back"))
        assert told(status) == (None, 1, "rolled-back", "probe-failed")


def test_values_that_the_class_does_not_take_are_told_field_by_field(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    with program(model=Config) as edge:
        source.config(
            {"number": "many", "mode": "best", "nubmer": "hunter2", "vad": {"threshold": 2, "token": 5}}
        )
        edge.verdict("rejected")
        said = source.status(tmp_path / "state", attempt("rejected")).last_attempt
    assert said is not None and said.reason == "invalid"
    found = {one.failed_field: one for one in said.errors}
    assert {key: one.error_code for key, one in found.items()} == {
        "number": "WRONG_TYPE", "mode": "NOT_ALLOWED_VALUE", "nubmer": "UNKNOWN_KEY",
        "vad.threshold": "OUT_OF_RANGE", "vad.token": "WRONG_TYPE",
    }  # fmt: skip
    assert (found["number"].received_value, found["number"].expected_type) == ('"many"', "a valid integer")
    assert "config-daemon set stt-worker mode=" in found["mode"].suggestion
    assert "number" in found["nubmer"].suggestion
    assert {found[key].received_value for key in ("nubmer", "vad.token")} == {"********"}
    assert "hunter2" not in said.model_dump_json()


class Loads(BaseModel):
    """A class with checks of its own, as people write them."""

    whisper_model: str
    beams: int = 1

    @field_validator("whisper_model")
    @classmethod
    def _exists(cls, name: str) -> str:
        if name != "small":
            raise ValueError(f"no such model here: {name}")
        return name

    @field_validator("beams")
    @classmethod
    def _is_even(cls, beams: int) -> int:
        if beams % 2:
            raise AssertionError("an even number of beams")
        return beams


def test_what_a_check_in_the_class_says_is_told_as_it_was_said(
    source: Source, program: Callable[..., Program]
) -> None:
    with program(model=Loads) as edge:
        source.config({"whisper_model": "large-v3", "beams": 3})
        said = [error.message for error in edge.verdict("rejected").errors]
    assert said == ["whisper_model: no such model here: large-v3", "beams: an even number of beams"]


class Token(RootModel[SecretStr]):
    """A secret that is a class of its own."""


class Database(BaseModel):
    """A section with a secret, and one that holds itself."""

    password: SecretStr
    port: int = 0
    replica: Database | None = None


class Secrets(BaseModel):
    """Every way of holding a secret."""

    pin: Secret[int] | None = None
    pins: list[Secret[int]] = []
    token: Token | None = None
    database: Database | None = None
    marked: list[int] = Field(default=[], json_schema_extra={"x-secret": True})


@pytest.mark.parametrize(
    "values",
    [
        {"pin": "hunter2"},
        {"pins": ["hunter2"]},
        {"pins": "hunter2"},
        {"token": ["hunter2"]},
        {"database": "hunter2"},
        {"database": {"password": ["hunter2"]}},
        {"database": {"password": "", "replica": "hunter2"}},
        {"marked": ["hunter2"]},
    ],
)
def test_a_value_where_a_secret_may_be_is_never_shown(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig) as told:
        validator(Secrets, SERVICE)(values)
    assert "hunter2" not in f"{told.value} {told.value.contexts}"


def test_a_value_beside_a_secret_is_shown() -> None:
    with pytest.raises(InvalidConfig) as told:
        validator(Secrets, SERVICE)({"database": {"password": "", "port": "ssh"}})
    assert [one.received_value for one in told.value.contexts] == ['"ssh"']


def test_a_check_of_the_programs_own_may_take_the_place_of_a_class(
    source: Source, program: Callable[..., Program]
) -> None:
    def check(values: Any) -> Any:
        if values["number"] > 9:
            raise InvalidConfig("nine is the most")
        return values["number"]

    with program(model=check) as edge:
        source.config({"number": 10})
        assert edge.verdict("rejected").reason == "invalid"
        source.config({"number": 9})
        assert edge.next().new == 9


def test_an_apply_that_takes_too_long_is_overdue_and_the_next_one_waits_for_its_end(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    edge, end = program(apply_seconds=0.1), threading.Event()
    source.config({"number": 0})
    with edge:
        edge.next()
        edge.on_apply = lambda change: end.wait(10)
        overdue = source.config({"number": 1})
        assert "0.1 s" in edge.verdict("rejected").errors[0].message
        status = source.status(tmp_path / "state", attempt("rejected"))
        assert told(status) == (1, overdue, "rejected", "apply-failed")
        edge.on_apply = lambda change: None
        source.config({"number": 2})
        back = source.config({"number": 0})
        assert edge.verdict("pending").reason == "still-applying"
        assert source.status(tmp_path / "state", attempt("pending")).running == status.running
        end.set()
        assert edge.next().new == {"number": 1}, "the overdue one ends when it ends"
        change = edge.next()
        assert change.new == {"number": 0}, "nobody knows what runs: the same values are handed over again"
        assert change.update.sequence == back
        assert told(source.status(tmp_path / "state", runs(back))) == (back, back, "applied", None)


def test_a_long_apply_neither_ends_the_connection_nor_looks_like_silence(
    broker_factory: BrokerFactory, raw_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEEPALIVE_SECONDS", 1)
    monkeypatch.setattr(sdk, "TOLD_SECONDS", 0.2)
    broker = broker_factory(extra_conf="log_type all")
    source, folder, end = Source(raw_client(broker)), tmp_path / "state", threading.Event()
    edge = Program(folder, broker.url)
    edge.on_apply = lambda change: end.wait(10)
    with edge:
        source.config({"number": 1})
        assert told(source.status(folder, attempt("pending"))) == (None, 1, "pending", None)
        # who says nothing for one and a half times the keepalive is sent away, sooner or later
        until(lambda: "Received PINGREQ from edge" in broker._words(), "a ping while `apply` runs", 5.0)  # type: ignore[attr-defined]
        end.set()
        edge.next()
        assert told(source.status(folder, runs(1))) == (1, 1, "applied", None)
        assert edge.notes.empty()


def test_a_program_that_needs_a_restart_ends_and_begins_with_the_new_config(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    source.config({"number": 1})
    edge = program()

    def fixed(change: Change) -> None:
        if change.old is not None:
            raise RestartNeeded

    edge.on_apply = fixed
    with edge:
        edge.next()
        source.config({"number": 2})
        edge.verdict("pending")
        edge.client._thread.join(5)  # type: ignore[union-attr]
        assert edge.client.ended == "restart"
    status = source.status(tmp_path / "state", attempt("pending"))
    assert told(status) == (1, 3, "pending", "restart-needed")
    again = program()
    again.on_apply = fixed
    with again:
        assert again.next().new == {"number": 2}


def test_a_program_that_needs_a_restart_is_given_no_other_config_before_it(
    source: Source, program: Callable[..., Program]
) -> None:
    source.config({"number": 1})
    source.config({"number": 2}, "global")
    edge = program(services=[SERVICE, "global"], first_use="run")
    asked: list[str] = []

    def needs_a_restart(change: Change) -> None:
        asked.append(change.service)
        raise RestartNeeded

    edge.on_apply = needs_a_restart
    with edge:
        edge.client._thread.join(5)  # type: ignore[union-attr]
        assert edge.client.ended == "restart"
    assert len(asked) == 1


@pytest.mark.parametrize("seconds", [30.0, None])
def test_a_callback_may_end_the_client(
    source: Source, program: Callable[..., Program], tmp_path: Path, seconds: float | None
) -> None:
    source.config({"number": 1})
    edge = program(apply_seconds=seconds)
    edge.on_apply = lambda change: edge.client.stop()
    with edge:
        edge.next()
        edge.client._thread.join(5)  # type: ignore[union-attr]
        assert edge.client.ended == "stopped"
    assert told(source.status(tmp_path / "state", runs(1))) == (1, 1, "applied", None)


def test_a_withdrawn_config_is_told_to_the_program_and_its_trouble_to_others(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    deleted: list[str] = []

    def on_deleted(service: str) -> None:
        deleted.append(service)
        raise OSError("cannot clean up")

    source.config({"number": 1})
    with program(on_deleted=on_deleted) as edge:
        edge.next()
        source.withdraw()
        assert "cannot clean up" in edge.verdict("pending").errors[0].message
        status = source.status(tmp_path / "state", attempt("pending"))
    assert deleted == [SERVICE]
    assert status.last_attempt is not None and status.running is not None
    assert "cannot clean up" in status.last_attempt.errors[0].message


def test_what_a_withdrawal_asks_of_the_program_is_asked_at_each_start_until_it_is_done(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    asked: list[int] = []

    def on_deleted(service: str) -> None:
        asked.append(len(asked))
        if len(asked) < 3:
            raise OSError("cannot clean up")

    source.withdraw()
    with program(on_deleted=on_deleted, first_use="run") as edge:
        edge.verdict("pending")
    for said in ("pending", "deleted"):
        with program(on_deleted=on_deleted) as edge:
            assert edge.verdict(said).sequence == 1
    with program(on_deleted=on_deleted):
        source.status(tmp_path / "state", attempt("deleted"))
    assert asked == [0, 1, 2]


# waiting, ending, presence ------------------------------------------------------------------------


def test_waiting_for_a_config_has_an_end(program: Callable[..., Program], source: Source) -> None:
    with program() as edge:
        with pytest.raises(TimeoutError, match=SERVICE):
            edge.client.wait_for(SERVICE, 0.05)
        source.config({"number": 1})
        assert edge.client.wait_for(timeout=5) == {"number": 1}
    quiet = program(folder=Path(edge.folder.parent / "other"), url="mqtt://127.0.0.1:9")
    quiet.client.start()
    quiet.client.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        quiet.client.wait_for()


def test_what_ends_the_thread_is_raised_where_the_program_waits(
    source: Source, broker: Broker, tmp_path: Path
) -> None:
    def report(_report: object) -> None:
        sys.exit("nobody reads this")

    source.config({"number": 1})
    made = ConfigClient(
        [SERVICE, "global"], worker="edge", broker=broker.url, state=tmp_path, public_key=PUBLIC_KEY,
        report=report,
    )  # fmt: skip
    made.start()
    with pytest.raises(SystemExit):
        made.wait_for("global", 5)
    with pytest.raises(SystemExit):
        made.stop()


def test_presence_follows_the_connection(
    source: Source, program: Callable[..., Program], proxy: Proxy
) -> None:
    with program(url=proxy.url):
        source.wait_for_presence("edge", b"online")
        proxy.refuse()
        source.wait_for_presence("edge", b"online", b"offline")
        proxy.heal()
        source.wait_for_presence("edge", b"online", b"offline", b"online")
    source.wait_for_presence("edge", b"online", b"offline", b"online", b"offline")


def test_a_status_is_retained_and_said_again_at_every_connection(
    broker: Broker, source: Source, program: Callable[..., Program], tmp_path: Path, raw_client: ClientFactory
) -> None:
    source.config({"number": 1})
    with program() as edge:
        edge.next()
        before = source.status(tmp_path / "state", runs(1))
        broker.kill()
        edge.note("broke")
        broker.start()
        after = Source(raw_client(broker)).status(
            tmp_path / "state", lambda status: status.order > before.order
        )
        assert after.running == before.running


def test_a_broker_that_lets_it_say_nothing_is_noted_once_and_breaks_nothing(
    broker_factory: BrokerFactory, raw_client: ClientFactory, tmp_path: Path
) -> None:
    acl = "topic readwrite system/config/#\ntopic readwrite system/trust/#\ntopic read system/status/#\n"
    broker = broker_factory(acl=acl)
    source = Source(raw_client(broker))
    with Program(tmp_path, broker.url) as edge:
        notes = {edge.note("refused what was published"), edge.note("refused what was published")}
        assert {note.split(" on ")[1].split(":")[0] for note in notes} == {
            TOPICS.presence("edge"), TOPICS.status(SERVICE, "edge"),
        }  # fmt: skip
        for number in range(1, 3):
            source.config({"number": number})
            edge.next()
        assert edge.notes.empty()


# what it is made with -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"services": []}, UsageError),
        ({"services": "Not A Service"}, UsageError),
        ({"services": ["a", "b"], "model": Config}, UsageError),
        ({"worker": "not/a/name"}, UsageError),
        ({"public_key": None}, KeyUnavailable),
        ({"public_key": "00" * 32}, KeyUnavailable),
        ({"keyring_file": "none.json", "public_key": None}, KeyUnavailable),
        ({"keyring_file": "none.json"}, KeyUnavailable),
        ({"broker": "nowhere"}, SettingsError),
    ],
)
def test_what_cannot_work_is_refused_at_once_with_a_remedy(
    tmp_path: Path, changes: dict[str, Any], error: type[UsageError]
) -> None:
    options = {
        "services": SERVICE, "worker": "edge", "broker": "mqtt://127.0.0.1:1", "state": tmp_path,
        "public_key": PUBLIC_KEY,
    }  # fmt: skip
    with pytest.raises(error) as refusal:
        ConfigClient(**{**options, **changes})
    assert refusal.value.suggestion


def test_damaged_keys_keep_the_client_from_starting(tmp_path: Path) -> None:
    Program(tmp_path, "mqtt://127.0.0.1:1")
    (tmp_path / KEYS).write_bytes(b"torn")
    with pytest.raises(KeyUnavailable, match="damaged"):
        Program(tmp_path, "mqtt://127.0.0.1:1")


def test_notes_go_to_the_programs_log_unless_it_takes_them(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.refuse()
    said = threading.Event()
    monkeypatch.setattr(logging.getLogger("config_daemon.worker"), "handle", lambda record: said.set())
    with ConfigClient(SERVICE, worker="edge", broker=proxy.url, state=tmp_path, public_key=PUBLIC_KEY):
        assert said.wait(5)


def test_the_config_before_waits_for_an_unfinished_one_that_is_late_at_the_start(
    source: Source, program: Callable[..., Program], tmp_path: Path
) -> None:
    first = source.config({"number": 1})
    edge = program()
    with edge:
        edge.next()
        edge.on_apply = lambda change: raising(RestartNeeded())
        second = source.config({"number": 2})
        edge.verdict("pending")
    end, again = threading.Event(), program(apply_seconds=0.05)
    again.on_apply = lambda change: end.wait(10) if change.new["number"] == 2 else None
    with again:
        assert again.verdict("rejected").sequence == second
        status = source.status(tmp_path / "state", attempt("rejected"))
        assert told(status) == (None, second, "rejected", "apply-failed")
        end.set()
        assert [again.next().new["number"], again.next().new["number"]] == [2, 1]
        assert again.verdict("applied").sequence == first
        status = source.status(tmp_path / "state", lambda one: one.boot == status.boot and runs(first)(one))
        assert told(status) == (first, second, "rejected", "apply-failed")


def test_an_overdue_start_of_one_service_keeps_the_other_waiting_and_not_for_ever(
    source: Source, program: Callable[..., Program]
) -> None:
    source.config({"number": 1})
    source.config({"number": 2}, "global")
    both = [SERVICE, "global"]
    with program(services=both) as edge:
        edge.next(), edge.next()
    end = threading.Event()
    again = program(services=both, apply_seconds=0.05)
    again.on_apply = lambda change: end.wait(10) if change.service == SERVICE else None
    with again:
        assert again.verdict("rejected").service == SERVICE
        assert again.client.values("global") is None, "one callback after the other"
        end.set()
        assert again.client.wait_for("global", 5) == {"number": 2}
