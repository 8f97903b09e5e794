"""Read YAML as JSON values: YAML 1.2, no tags of programming languages, dates stay text.

Law: whatever the library raises about a text becomes one error with the place.
"""

from __future__ import annotations

from typing import Any


class BadYaml(ValueError):
    """A text that is no YAML of ours; the message says why and where."""


def load_all(text: str) -> list[Any]:
    """Return the documents of a YAML stream.

    Raises: BadYaml.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    class Constructor(SafeConstructor):
        """Makes what JSON has; a date is text, as it would be in JSON."""

    Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)
    yaml = YAML(typ="safe", pure=True)  # the compiled parser reads YAML 1.1, in which `no` is false
    yaml.Constructor = Constructor
    try:
        return list(yaml.load_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = (error.problem or error.context or "a syntax error").partition(" with value ")[0]
        raise BadYaml(f"{what}{place}") from error
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise BadYaml(str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error
    except RecursionError as error:
        raise BadYaml("nested too deeply") from error
