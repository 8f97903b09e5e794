"""The seven laws, each as a function from what is known to its breaches in words.

N1 nothing acknowledged is lost · N2 the broker holds the newest · N3 workers run it · N4 nobody runs anything else,
nor goes back · N5 history tells each change once · N6 health says what is · N7 no secret is anywhere it must not be.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tools.faults.checker import wire
from tools.faults.checker.book import Book
from tools.faults.checker.record import Place, Record, Sealed, place_of

Values = dict[str, Any]


@dataclass
class Truth:
    """What was committed: the database as it is, and what was acknowledged."""

    record: Record
    book: Book

    def __post_init__(self) -> None:
        self.states = self.book.states()
        rebuilt = [note for note in self.record.notes if note["kind"] == "rebuilt"]
        self.is_rebuilt = bool(rebuilt)  # history began anew then
        self.listed_as_lost = {service for note in rebuilt for service in note["lost"]}
        self._committed: dict[tuple[str, int], list[Values]] = defaultdict(list)
        for service, versions in self.states.items():
            for version, texts in versions.items():
                self._committed[service, version].append(
                    {key: json.loads(text) for key, text in texts.items()}
                )
        for ack in self.record.acks:
            if ack["kind"] == "ack" and ack["values"] is not None:
                self._committed[ack["service"], ack["version"]].append(ack["values"])

    def committed(self, service: str, version: int) -> list[Values]:
        """Return the values that were committed as a version."""
        return self._committed[service, version]

    def begins(self, service: str) -> int:
        """Return the first version that history has to tell of."""
        told = self.states.get(service, {})
        return min(told, default=1 << 53) if self.is_rebuilt else 1

    def fits(self, service: str, version: int, config: Values) -> bool:
        """Tell whether a config is what some committed version comes to."""
        return any(
            self._is_effective(service, values, config) for values in self._committed[service, version]
        )

    def _is_effective(self, service: str, values: Values, config: Values) -> bool:
        wanted = {**self.record.spec["defaults"], **values}
        fixed: Mapping[str, list[Any]] = self.record.spec["overlays"].get(service, {})
        return config.keys() == wanted.keys() and all(
            config[key] == value or config[key] in fixed.get(key, ()) for key, value in wanted.items()
        )


def n1(truth: Truth) -> Iterator[str]:
    """Every acknowledged write is there or was superseded; what was not acknowledged is there whole or not at all."""
    book, lost = truth.book, _declared_lost(truth.record)
    if book.sound != "ok":
        yield f"the database is not sound: {book.sound[:200]}"
    for ack in truth.record.acks:
        service, version = ack["service"], ack["version"]
        if ack["kind"] != "ack" or (service, version) in lost or service in truth.listed_as_lost:
            continue
        stands_at = book.rows.get(service, (0, None))[0]
        texts = truth.states.get(service, {}).get(version)
        found = None if texts is None else {key: json.loads(text) for key, text in texts.items()}
        if stands_at < version:
            yield f"{service} version {version} was acknowledged, the database stands at {stands_at}"
        elif version >= truth.begins(service) and found != (ack["values"] or {}):
            yield f"{service} version {version} was acknowledged as {ack['values']}, history has {found}"
    for service, (version, values) in book.rows.items():
        yield from _halves(truth, service, version, values)


def _halves(truth: Truth, service: str, version: int, values: Values | None) -> Iterator[str]:
    if version < truth.begins(service):
        if values is not None and values not in truth.committed(service, version):
            yield f"{service}: the row says {values}, and that was never acknowledged as version {version}"
        return
    texts = truth.states.get(service, {}).get(version, {})
    told = {key: json.loads(text) for key, text in texts.items()}
    if (values or {}) != told:
        yield f"{service}: the row says {values}, history comes to {told}"
    items = {key: json.loads(text) for key, text in truth.book.items.get(service, {}).items()}
    if items != told:
        yield f"{service}: the items are {items}, history comes to {told}"
    for number, state in truth.states.get(service, {}).items():
        token, count = (json.loads(state.get(key, "null")) for key in ("token", "count"))
        if state and not str(token).endswith(f"-{count}"):
            yield f"{service} version {number} is half a write: token {token}, count {count}"


def n2(truth: Truth, retained: Mapping[str, bytes] | None, keys: dict[str, set[bytes]]) -> Iterator[str]:
    """The broker holds, for each service, exactly the newest sealed bytes, and they say what the database says."""
    if retained is None:
        yield "the broker does not answer"
        return
    for service, (version, values) in truth.book.rows.items():
        try:
            held = wire.unseal(
                f"system/config/{service}", retained.get(f"system/config/{service}", b""), keys
            )
        except (wire.Forged, ValueError) as error:
            yield f"{service}: the broker holds nothing of ours ({error})"
            continue
        highest, body = truth.record.highest(service), held.body
        if held.place != highest:
            yield f"{service}: the broker holds number {held.place}, the newest is {highest}"
        elif body["config_version"] != version:
            yield f"{service}: the broker holds version {body['config_version']}, the database {version}"
        elif (values is None) != body.get("deleted", False):
            yield f"{service}: deleted on one side only"
        elif values is not None and not truth.fits(service, version, body["config"]):
            yield f"{service} version {version}: the broker holds another content than the database"


def n3(truth: Truth, retained: Mapping[str, bytes] | None, keys: dict[str, set[bytes]]) -> Iterator[str]:
    """Every worker applied what the broker holds."""
    for service in truth.book.rows:
        try:
            held = wire.unseal(
                f"system/config/{service}", (retained or {}).get(f"system/config/{service}", b""), keys
            )
        except (wire.Forged, ValueError):
            continue  # N2 says so
        for worker in truth.record.workers:
            if service in truth.record.spec["services"] and worker.place(service) != held.place:
                yield f"{worker.name} runs {service} {worker.place(service)}, the broker holds {held.place}"


def n4(truth: Truth) -> Iterator[str]:
    """No worker ever ran anything that was not committed, nor went back; the daemon neither published such a thing."""
    for worker in truth.record.workers:
        yield from _worker_order(truth, worker.name, worker.said)
    highest: dict[str, Place] = {}
    for one in truth.record.configs:
        body, service = one.message.body, one.message.body["service"]
        if not body.get("deleted") and not truth.fits(service, body["config_version"], body["config"]):
            yield f"{service}: published as version {body['config_version']}, and never committed: {body['config']}"
        if not one.heard.retained and one.message.place < highest.get(service, (0, 0)):
            yield f"{service}: number {one.message.place} was published after {highest[service]}"
        highest[service] = max(highest.get(service, (0, 0)), one.message.place)
    yield from _numbers(truth.record)


def _worker_order(truth: Truth, name: str, said: list[dict[str, Any]]) -> Iterator[str]:
    last: dict[str, tuple[Place, int]] = {}
    given: dict[str, Values] = {}
    process = 0
    for line in said:
        process += "start" in line
        if "given" in line:
            given[line["given"]] = line["config"]
        service = line.get("service", "")
        if line.get("state") not in ("applied", "deleted") or service == "keyring":
            continue
        place, before = place_of(line), last.get(service)
        if before and place < before[0]:
            yield f"{name} went back: {service} {place} after {before[0]}"
        if before == (place, process):
            yield f"{name} applied {service} {place} twice"
        last[service] = (place, process)
        config = given.pop(service, None)
        if config is not None and not truth.fits(service, line["config_version"], config):
            yield f"{name} ran {service} version {line['config_version']}, and nobody committed that: {config}"


def _numbers(record: Record) -> Iterator[str]:
    """A number belongs to one message, whichever topic it is for."""
    used: dict[Place, str] = {}
    forked = any(
        note["kind"] == "forked" for note in record.notes
    )  # two daemons with one key: only configs count
    for one in record.sealed:
        if forked and one.message.kind != "config":
            continue
        digest = hashlib.sha256(one.heard.raw).hexdigest()
        if one.message.kind == "keyring" or digest in record.theirs:
            continue
        if used.setdefault(one.message.place, digest) != digest:
            yield f"number {one.message.place} was used for two messages, one on {one.heard.topic}"


def n5(truth: Truth) -> Iterator[str]:
    """One line of history for each changed key, one change id for each version, versions from 1 without a gap."""
    lines = truth.book.history
    for (service, version, key), count in Counter(
        (one.service, one.version, one.key) for one in lines
    ).items():
        if count > 1:
            yield f"{service} version {version}: {key} is told {count} times"
    changes: dict[tuple[str, int], set[str]] = defaultdict(set)
    values: dict[tuple[str, str], str] = {}
    for one in lines:
        changes[one.service, one.version].add(one.change)
        before = values.get((one.service, one.key), (one.old or "") if truth.is_rebuilt else "")
        if (one.old or "") != before:
            yield f"{one.service} version {one.version}: {one.key} was not {one.old} before"
        values[one.service, one.key] = one.new
    for (service, version), names in changes.items():
        if len(names) > 1:
            yield f"{service} version {version}: {len(names)} change ids"
    for service, (version, _) in truth.book.rows.items():
        told = sorted(number for name, number in changes if name == service)
        wanted = list(range(truth.begins(service), version + 1))
        if told != wanted:
            missing = sorted(set(wanted) ^ set(told))[:5]
            yield f"{service} stands at version {version}; history differs at {missing}"


def n6(record: Record, board: list[tuple[float, dict[str, Any]]]) -> Iterator[str]:
    """Health said what was expected in time, and never that all is well while it was not."""
    wire_says = [(one.heard.at, _flat(one)) for one in record.sealed if one.message.kind == "health"]
    for note in (note for note in record.notes if note["kind"] == "expect"):
        sources = wire_says if note["wire"] else [*wire_says, *board]
        until = note["at"] + note["within"]
        standing = max(
            (at for at, _ in sources if at < note["at"]), default=until
        )  # what was said last still holds
        if not any(
            (at == standing or note["at"] <= at <= until) and _says(said, note["health"])
            for at, said in sources
        ):
            said = _words(sources, note["at"])
            yield f"health did not say {note['health']} within {note['within']} s; it said {said}"
    for begin, end in _wrongs(record):
        for one in record.sealed:
            is_then = not one.heard.retained and begin <= one.heard.at <= end
            if one.message.kind == "health" and is_then and one.message.body["ok"]:
                yield "health said that all is well while it was not"
                break


def n6_at_the_end(
    retained: Mapping[str, bytes] | None, topic: str, keys: dict[str, set[bytes]]
) -> Iterator[str]:
    """In the end all is well, and health says so."""
    try:
        body = wire.unseal(topic, (retained or {}).get(topic, b""), keys).body
    except (wire.Forged, ValueError) as error:
        yield f"no health at the end ({error})"
        return
    if not body["ok"]:
        told = ", ".join(str(body[name]) for name in ("database_status", "operational_mode", "event", "err"))
        yield f"health at the end: {told}"


def _flat(one: Sealed) -> dict[str, Any]:
    body = one.message.body
    return {**body, "conditions": [condition["name"] for condition in body["conditions"]]}


def _says(said: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(
        value in said.get("conditions", ()) if name == "condition" else said.get(name) == value
        for name, value in wanted.items()
    )


def _words(sources: list[tuple[float, dict[str, Any]]], since: float) -> list[str]:
    said = [
        f"{one.get('database_status')}/{one.get('operational_mode')}/{one.get('event')}/{','.join(one['conditions'])}"
        for at, one in sorted(sources, key=lambda pair: pair[0]) if at >= since and one.get("conditions") is not None
    ]  # fmt: skip
    return list(dict.fromkeys(said))[-6:]


def _wrongs(record: Record) -> Iterator[tuple[float, float]]:
    """Yield the times in which health must not be well: from a little after a fault's beginning to its end."""
    begin = None
    for note in record.notes:
        if note["kind"] == "wrong":
            begin = note["at"] + note["within"]
        elif note["kind"] == "right" and begin is not None:
            yield begin, note["at"]
            begin = None


def _declared_lost(record: Record) -> set[tuple[str, int]]:
    return {
        (note["service"], version)
        for note in record.notes
        if note["kind"] == "lost"
        for version in note["versions"]
    }
