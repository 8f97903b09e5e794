"""Write what other languages need to read our messages: JSON Schemas and signed test vectors.

Laws: two runs write the same bytes; what lies in the folders and is not written by us is removed, so
that a renamed vector does not live on.

    python tools/publish_wire.py            writes schemas/wire and schemas/vectors
    python tools/publish_wire.py --check    writes nothing, names what differs, and exits with 1 if anything does
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # started as a script
    sys.path.insert(0, str(ROOT))

from config_daemon.wire.beacon import BEACON, Beacon  # noqa: E402
from config_daemon.wire.convergence import CONVERGENCE, Convergence  # noqa: E402
from config_daemon.wire.keyring import KEYRING, KeyringBody  # noqa: E402
from config_daemon.wire.messages import CONFIG_UPDATE, FORMAT_VERSION, HEALTH, ConfigUpdate, Health, Message  # noqa: E402
from config_daemon.wire.sealing import media_type  # noqa: E402
from config_daemon.wire.status import STATUS, Status  # noqa: E402
from tools.wire_vectors import vectors  # noqa: E402

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SIGNATURE = {
    "description": "Ed25519 over the type and all bytes before this member; always the last member",
    "pattern": "^[A-Za-z0-9+/]{85}[AQgw]==$",
    "type": "string",
}
FOLDERS = {Path("schemas/wire"): "*.schema.json", Path("schemas/vectors"): "*.json"}


class _Untitled(GenerateJsonSchema):
    """JSON Schema without a title for every field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def wire_schema(model: type[Message], body_type: str) -> dict[str, Any]:
    """Return the JSON Schema of a message as it travels, its signature included."""
    schema = model.model_json_schema(schema_generator=_Untitled)
    _close(schema)
    properties = schema["properties"]
    # whatever cannot be null by default is always written
    required = [name for name, field in properties.items() if field.get("default", "") is not None]
    for field in properties.values():
        field.pop("default", None)
    return {
        "$schema": DIALECT,
        "$id": f"urn:config-daemon:wire:{body_type}:{FORMAT_VERSION}",
        "title": f"{body_type}, format {FORMAT_VERSION}",
        "description": schema["description"],
        "$comment": f"signed as {media_type(body_type).decode()}; check the signature first: docs/protocol.md",
        "type": "object",
        "properties": {**properties, "signature": SIGNATURE},
        "required": [*required, "signature"],
        "$defs": schema.get("$defs", {}),
    }


def _close(schema: Any) -> None:
    """Have every map whose keys have a form refuse the other keys, as our reader does."""
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _close(part)
    if isinstance(schema, dict) and "patternProperties" in schema:
        schema["additionalProperties"] = False


def published() -> dict[Path, bytes]:
    """Return every generated file: its path below the project's root, and its bytes."""
    files = {Path(f"schemas/vectors/{vector.name}.json"): vector.as_json() for vector in vectors()}
    models = ((ConfigUpdate, CONFIG_UPDATE), (Health, HEALTH), (Beacon, BEACON), (KeyringBody, KEYRING),
              (Status, STATUS), (Convergence, CONVERGENCE))  # fmt: skip
    for model, body_type in models:
        text = json.dumps(wire_schema(model, body_type), indent=2, ensure_ascii=False)
        files[Path(f"schemas/wire/{body_type}.schema.json")] = text.encode() + b"\n"
    return files


def differing(root: Path) -> list[Path]:
    """Return the paths that are missing, stale or left over, sorted."""
    wanted = published()
    there = {
        path.relative_to(root): path.read_bytes()
        for folder, pattern in FOLDERS.items()
        for path in (root / folder).glob(pattern)
    }
    return sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))


def write(root: Path) -> None:
    """Make the folders below `root` hold what is published, and nothing else of its kind."""
    wanted = published()
    for path in differing(root):
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(wanted[path])
        else:
            (root / path).unlink()


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything differs")
    if not parser.parse_args(arguments).check:
        write(root)
        return 0
    stale = differing(root)
    for path in stale:
        print(f"{path} differs: run tools/publish_wire.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
