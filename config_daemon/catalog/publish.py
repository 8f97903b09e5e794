"""Write the JSON Schema of every shipped service into `schemas/services`, or tell whether it is fresh.

Run: `python -m config_daemon.catalog.publish [--check] [--folder DIR]`. Exit 1: something is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from config_daemon.catalog.folder import SUFFIX
from config_daemon.catalog.registered import shipped
from config_daemon.catalog.services import SHIPPED

FOLDER: Final = Path(__file__).resolve().parents[2] / "schemas" / "services"


def wanted() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {
        service + SUFFIX: json.dumps(shipped(service).schema(), indent=2, ensure_ascii=False) + "\n"
        for service in SHIPPED
    }


def stale(folder: Path) -> list[str]:
    """Return the names of the files that are missing, outdated or no longer wanted."""
    files = wanted()
    there = {path.name: path.read_text("utf-8") for path in folder.glob(f"*{SUFFIX}")}
    return sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))


def write(folder: Path) -> list[str]:
    """Make the folder hold exactly the wanted files; return the names of those that changed."""
    names, files = stale(folder), wanted()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in files:
            (folder / name).write_text(files[name], "utf-8")
        else:
            (folder / name).unlink()
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m config_daemon.catalog.publish", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the schemas go")
    options = parser.parse_args(arguments)
    names = stale(options.folder) if options.check else write(options.folder)
    for name in names:
        sys.stderr.write(f"{'stale' if options.check else 'wrote'}: {name}\n")
    return 1 if names and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
