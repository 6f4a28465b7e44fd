"""Settings on their way in: YAML and `a.b=value` to a tree, and what is wrong with one to a line.

Knows no setting: `explain` is given the model that the tree was checked against.
"""

from __future__ import annotations

import difflib
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from pipeline.errors import ConfigError


class Strict(BaseModel):
    """A frozen model that refuses keys it does not know, numbers that JSON has not, and `true` for 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes `true` for 1: `epochs: true` would train one epoch.
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and not _takes(wanted, bool) and _takes(wanted, int, float):
            raise ValueError(f"input should be a number, not {str(value).lower()}")
        return value


def _takes(annotation: Any, *kinds: type) -> bool:
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return any(_takes(part, *kinds) for part in get_args(annotation))
    return annotation in kinds


def chosen_by_kind(default: str) -> Discriminator:
    """Which of several models a section is, by its `kind`."""

    def chosen(section: Any) -> Any:
        if isinstance(section, dict):
            return section.get("kind", default)
        return getattr(section, "kind", default)

    return Discriminator(chosen)


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; see configs/ for examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2020-13-45
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        if problem == "mapping values are not allowed here":
            problem += "; a value that holds a colon and a space stands in quotes"
        raise ConfigError(f"{path}{where} is not valid YAML: {problem}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, not a {type(tree).__name__}")
    return tree


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in `tree`; the value is YAML.

    Raises:
        ConfigError: not of that form, or no such place.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"--set {override!r} is not of the form a.b=value, such as train.epochs=3"
        )
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # a date such as 2020-13-45
        raise ConfigError(f"--set {key}: {text!r} is not a YAML value") from None
    node: Any = tree
    for part in parts[:-1]:
        node = _child(node, part, override)
    last: Any = parts[-1]
    if isinstance(node, list):
        last = _position(node, last, override)
    node[last] = value


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_position(node, part, override)]
    child = node.setdefault(part, {})
    if child is None:
        child = node[part] = {}
    if not isinstance(child, dict | list):
        raise ConfigError(f"--set {override}: {part} is a value, not a section")
    return child


def _position(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {override}: {part!r} is not a position below {len(node)}")
    return int(part)


def explain(error: ValidationError, root: type[BaseModel], origin: str) -> str:
    """Every problem as a key, its value and what is allowed; unknown keys with the nearest known."""
    lines = []
    for problem in error.errors(include_url=False):
        place = _place(root, problem["loc"])
        key = ".".join(str(part) for part in place)
        if problem["type"] == "extra_forbidden":
            lines.append(_unknown_key(root, problem["loc"]))
        elif problem["type"] == "missing":
            lines.append(f"{key} is required")
        elif problem["type"] == "union_tag_invalid":
            context = problem["ctx"]
            lines.append(f"{key}.kind = {context['tag']!r}: known are {context['expected_tags']}")
        elif problem["type"] in ("model_type", "model_attributes_type"):
            known = ", ".join(_model_at(root, problem["loc"]).model_fields)
            lines.append(f"{key} = {problem['input']!r}: it is a section, of the keys {known}")
        elif isinstance(problem["input"], dict | BaseModel):  # of a section as a whole
            lines.append(f"{key}: {_message(problem['msg'])}")
        else:
            lines.append(f"{key} = {problem['input']!r}: {_message(problem['msg'])}")
    return f"{origin}: " + "; ".join(dict.fromkeys(lines))


def _message(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[0].lower() + text[1:]


def _place(root: type[BaseModel], location: tuple[int | str, ...]) -> list[int | str]:
    """Where a person would say it is: pydantic also names the alternatives of a union."""
    place: list[int | str] = []
    at: Any = root
    for part in location:
        below, seen = _below(at, part)
        at = below
        if seen:
            place.append(part)
    return place


def _below(at: Any, part: int | str) -> tuple[Any, bool]:
    """What `part` of a location leads to, and whether people see that part."""
    models = _models(at)
    if isinstance(part, int):
        return (get_args(at) or (None,))[0], True
    if len(models) > 1:  # a union: the part is the chosen one's kind
        return next(m for m in models if m.model_fields["kind"].default == part), False
    if models:
        field = models[0].model_fields.get(part)
        return (field.annotation if field else None), True
    return None, at is None or get_origin(at) is dict


def _model_at(root: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The section that a location of an error leads to."""
    at: Any = root
    for part in location:
        at = _below(at, part)[0]
    return _models(at)[0]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value of this annotation can be."""
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for option in get_args(annotation) for model in _models(option)]
    found = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if found else []


def _unknown_key(root: type[BaseModel], location: tuple[int | str, ...]) -> str:
    place = _place(root, location)
    key, name = ".".join(map(str, place)), str(place[-1])
    at: Any = root
    others: list[type[BaseModel]] = []
    for part in location[:-1]:
        others = _models(at)
        at = _below(at, part)[0]
    [model] = _models(at)
    known = list(model.model_fields)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"unknown key {key}; did you mean {'.'.join([*map(str, place[:-1]), close[0]])}?"
    for section, field in root.model_fields.items():
        if any(name in m.model_fields for m in _models(field.annotation)):
            return f"unknown key {key}; did you mean {section}.{name}?"
    if "kind" not in known:
        return f"unknown key {key}; known here: {', '.join(known)}"
    kinds = [m.model_fields["kind"].default for m in others if name in m.model_fields]
    of_another = f"is for kind {' or '.join(kinds)}" if kinds else "is unknown"
    return (
        f"{key} {of_another}; kind {model.model_fields['kind'].default} has: {', '.join(known[1:])}"
    )
