"""The program as a later version of it will be: with one script more, which the environment names."""

from __future__ import annotations

import os
import sys

from config_daemon.cli.main import main
from config_daemon.store import connection, upgrade
from config_daemon.store.schema import migrations

if __name__ == "__main__":
    scripts = [*migrations(), os.environ["LATER_SCRIPT"]]
    upgrade.migrations = lambda: scripts
    connection.FORMAT_VERSION = len(scripts)
    sys.exit(main())
