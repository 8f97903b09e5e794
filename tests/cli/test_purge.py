"""purge: what is refused before anybody is asked, and that the daemon is asked."""

from __future__ import annotations

import json
import subprocess
import sys

from config_daemon.store.finishing import numbers_of
from config_daemon.store.ground import load_ground
from tests.cli.conftest import Cli, Daemon, refused
from tests.e2e.house import until


def deleted(cli: Cli) -> None:
    cli.ok("set", "router", "router_stream_min_chars=9")
    cli.ok("delete", "router", "--yes")


def test_what_lives_or_never_was_is_refused_before_anybody_is_asked(cli: Cli, daemon: Daemon) -> None:
    cli.ok("set", "router", "router_stream_min_chars=9")
    refused(cli("purge", "router"), 4, "router is not deleted", "config-daemon delete router")
    refused(cli("purge", "tts-worker", "--yes"), 5, "nothing to purge")
    refused(cli("purge", "No Name", "--yes"), 2, "no service's name")
    assert not list(cli.files.requests.glob("*.json"))


def test_it_asks_first_and_needs_a_daemon(cli: Cli) -> None:
    deleted(cli)
    refused(
        cli("purge", "router", text="n\n", terminal=True), 1, "will not hear", "Clear the topic of router?"
    )
    refused(cli("purge", "router", "--yes"), 69, "no daemon is running", "config-daemon run")


def test_the_daemon_clears_a_tombstone_or_an_orphan(cli: Cli, daemon: Daemon) -> None:
    deleted(cli)
    daemon.says(("orphan-retained", "old-one"))
    for service in ("router", "old-one"):
        words = [
            "-m",
            "config_daemon.cli.main",
            "purge",
            service,
            "--yes",
            "--json",
            "--data",
            str(cli.folder),
        ]
        asking = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        found = until(lambda: list(cli.files.requests.glob("*.json")), "the request")
        request = json.loads(found[0].read_text())
        assert (request["kind"], request["arguments"]) == ("purge", {"service": service})
        daemon.answers(found[0].stem, "done", {"service": service, "version": 2})
        assert json.loads(asking.communicate(timeout=30)[0])["purged"] is True
        found[0].unlink()


def test_a_misspelt_service_is_told_what_was_meant_and_a_purge_is_not_repeated(
    cli: Cli, daemon: Daemon
) -> None:
    deleted(cli)
    refused(cli("purge", "routr"), 5, "nothing to purge", "Did you mean 'router'?")
    keys = load_ground(cli.folder, {}, {}).keys.hmac_keys()
    numbers_of(cli.files, keys, 1).write(purged={"router": 2})
    assert "was purged already" in cli.ok("purge", "router").out
    assert not list(cli.files.requests.glob("*.json"))
