"""From YAML and `--set` to the frozen configuration, or to one message with every fault."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from labelclean.config.whole import PATH_KEYS, Config
from labelclean.errors import ConfigError


def parse_config(
    text: str, *, folder: Path, origin: str, overrides: Sequence[str] = (), cwd: Path | None = None
) -> Config:
    """Return the configuration that a YAML text and `key=value` overrides describe.

    Args:
        text: YAML, read with the safe loader.
        folder: Where relative paths in the text start, normally the config file's folder.
        origin: The file's name for error messages.
        overrides: `section.key=value` items; values are YAML, and relative paths among them
            start at ``cwd``.
        cwd: Folder that paths in overrides start from; default: ``folder``.

    Returns:
        The checked configuration, all paths absolute if ``folder`` and ``cwd`` are.

    Raises:
        ConfigError: If the YAML is broken or any key is unknown, missing or out of range; all
            faults are listed.
    """
    settings: Any = _yaml(text, origin)
    if not isinstance(settings, dict):
        raise ConfigError(f"{origin}: the file must hold a mapping of sections, but holds {type(settings).__name__}.")
    for item in overrides:
        _apply_override(settings, item, cwd or folder)
    # a section with no key set is None in YAML; storage and adapt have paths as defaults and need the folder
    settings = {"storage": {}, "adapt": {}} | {key: {} if value is None else value for key, value in settings.items()}
    try:
        return Config.model_validate(settings, context={"folder": folder})
    except ValidationError as fault:
        raise ConfigError(_faults(fault, origin)) from None


def config_record(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values for a manifest; it holds no secret.

    Args:
        config: The configuration.

    Returns:
        Nested dict of JSON values.
    """
    record: dict[str, Any] = config.model_dump(mode="json")
    return record


def recorded_config(record: Mapping[str, Any]) -> Config:
    """Return the configuration that a run's manifest holds, also one that an older labelclean wrote.

    Args:
        record: From `config_record`; keys that there were once are left out.

    Returns:
        The configuration.
    """
    gone = {tuple(key.split(".")) for key in _RENAMED}
    sections = {
        name: {key: value for key, value in section.items() if (name, key) not in gone}
        if isinstance(section, dict)
        else section
        for name, section in record.items()
    }
    return Config.model_validate(sections)


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases: a few nested ones are gigabytes as soon as they are written out."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read; write the value out")
        return super().compose_node(parent, index)


# PyYAML lets these through where a value contradicts its tag or cannot be, such as the date 2026-13-45
_NO_VALUE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


def _yaml(text: str, origin: str) -> Any:
    try:
        return _PlainLoader(text).get_single_data()
    except (yaml.YAMLError, *_NO_VALUE) as fault:
        problem = " ".join(str(fault).split())[:500]
        raise ConfigError(f"{origin}: the file must be plain YAML, but: {problem}.") from None


def _apply_override(settings: dict[str, Any], item: str, cwd: Path) -> None:
    """Write one `a.b=value` into the nested settings."""
    key, equals, raw = item.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set must look like section.key=value, but is {_BRIEF.repr(item)}.")
    value = _yaml(raw, f"--set {_shown(key)}")
    if key in PATH_KEYS and isinstance(value, str):
        value = str(cwd / value)
    *sections, name = key.strip().split(".")
    place = settings
    for section in sections:
        inner = place.setdefault(section, {})
        if inner is None:
            inner = place[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(
                f"--set {_BRIEF.repr(item)}: {_BRIEF.repr(section)} is not a section of the configuration."
            )
        place = inner
    place[name] = value


_RENAMED = {
    "review.audit_share": "is now review.audit_samples: not a share of the queue, but a number of samples drawn from all "
    "that nobody has settled; write audit_samples: 30, or 0 for no audit",
}
"""What to write in the place of keys that there were once."""

_MOST_FAULTS = 50
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 120


def _shown(part: int | str) -> str:
    """A key as it is, or safe to print where it is long or no plain text."""
    name = str(part)
    return name if name.isprintable() and len(name) < 100 else _BRIEF.repr(name)


def _faults(fault: ValidationError, origin: str) -> str:
    """All faults of a configuration as one message."""
    lines = []
    errors = fault.errors(include_url=False)
    for error in errors[:_MOST_FAULTS]:
        key = ".".join(_shown(part) for part in error["loc"])
        if error["type"] == "extra_forbidden" and key in _RENAMED:
            lines.append(f"  {key}: this key {_RENAMED[key]}")
        elif error["type"] == "extra_forbidden":
            lines.append(f"  {key}: this key is not known{_nearest(error['loc'])}")
        elif error["type"] == "missing":
            lines.append(f"  {key}: this key is required but missing")
        else:
            problem = error["msg"].removeprefix("Value error, ")
            value = "" if key in ("ledger.url", "") else f", found {_BRIEF.repr(error['input'])}"
            lines.append(f"  {key}{': ' if key else ''}{problem[0].lower()}{problem[1:]}{value}")
    if len(errors) > _MOST_FAULTS:
        lines.append(f"  and {len(errors) - _MOST_FAULTS:,} more")
    head = f"{origin}: {len(errors):,} setting{'s' if len(errors) > 1 else ''} cannot be used:\n"
    return head + "\n".join(lines) + "\nCorrect them; `labelclean init` writes a file with every key explained."


def _nearest(location: tuple[int | str, ...]) -> str:
    """The keys that stand where the unknown one was written."""
    model: Any = Config
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    fields: Mapping[str, object] = getattr(model, "model_fields", {})
    return f"; known here: {', '.join(sorted(fields))}" if fields else ""
