"""YAML files from anywhere, read safely: plain values only, and a UserError that says where for whatever is wrong.

Refused besides broken YAML: files above 1 MiB, bytes that are not UTF-8, keys given twice, values that contain
themselves, and aliases that would expand to more than 200,000 values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spillover.errors import UserError

_MAX_BYTES = 1 << 20
_MAX_VALUES = 200_000


def read_yaml(path: Path) -> Any:
    """The content of the file.

    Raises:
        UserError: with the file and, where there is one, the line.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Give the path of a YAML file.") from None
    if len(raw) > _MAX_BYTES:
        raise UserError(f"{path}: larger than {_MAX_BYTES >> 20} MiB. Split it into several files.")
    try:
        loader = yaml.SafeLoader(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {_reason(error)}. Fix it.") from None
    try:
        node = loader.get_single_node()
        if node is None:
            raise UserError(f"{path}: is empty. Give a file with keys and values.")
        if _expanded_size(node, path, {}) > _MAX_VALUES:
            raise UserError(f"{path}: its aliases expand to more than {_MAX_VALUES:,} values. Write fewer aliases.")
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {_reason(error)}. Fix it.") from None
    except (
        ValueError,
        KeyError,
        AttributeError,
    ) as error:  # what PyYAML raises for 2024-13-40, !!bool x, !!timestamp x
        raise UserError(f"{path}: contains a value that does not match its type ({error}). Put it in quotes.") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply. Reduce the nesting.") from None
    finally:
        loader.dispose()


def _expanded_size(node: yaml.Node, path: Path, sizes: dict[yaml.Node, int | None]) -> int:
    """How many values the node stands for once every alias is written out; None in `sizes` marks one being counted."""
    if node in sizes:
        known = sizes[node]
        if known is None:
            raise UserError(f"{_line(path, node)}: a value contains itself through an alias. Remove the alias.")
        return known
    sizes[node] = None
    total = 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise UserError(f"{_line(path, key)}: the key {key.value!r} is given twice. Remove one.")
                seen.add(key.value)
            total += _expanded_size(key, path, sizes) + _expanded_size(value, path, sizes)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_expanded_size(item, path, sizes) for item in node.value)
    sizes[node] = total
    return total


def _line(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: broken YAML, {error.problem}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"the control character U+{error.character:04X} at position {error.position} is not allowed"
    return f"broken YAML, {error}"
