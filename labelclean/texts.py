"""The words of the report: one catalogue per language, and numbers as people write them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

from labelclean.errors import ConfigError

LANGUAGES = ("en", "ja")
_BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


class Texts:
    """The catalogue of one language; call it with a dotted key.

    Attributes:
        lang: Language code.

    Examples:
        >>> Texts("en")("gates.in_order", n=1)
        '1 check in order'
    """

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._entries = catalogue(lang)

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return a text with its values filled in; whole numbers get thousands separators.

        Args:
            key: Dotted key; must exist.
            values: What the text's placeholders name; `n` also picks `one` or `other`.

        Returns:
            Plain text, not yet escaped.
        """
        entry = self._entries[key] if key in self._entries else self._plural(key, values["n"])
        return entry.format(**{name: number(value) for name, value in values.items()})

    def has(self, key: str) -> bool:
        """Return whether the catalogue knows a key (checks and codes may be newer than it)."""
        return key in self._entries or f"{key}.other" in self._entries

    def _plural(self, key: str, n: int) -> str:
        return self._entries[f"{key}.{'one' if n == 1 else 'other'}"]


@cache
def catalogue(lang: str) -> Mapping[str, str]:
    """Return a language's texts by dotted key, read once.

    Args:
        lang: Language code.

    Returns:
        The texts.

    Raises:
        ConfigError: If there is no such language.
    """
    if lang not in LANGUAGES:
        raise ConfigError(f"the report's language must be one of {', '.join(LANGUAGES)}, but is {lang!r}.")
    text = files("labelclean").joinpath(f"texts.{lang}.yaml").read_text(encoding="utf-8")
    return MappingProxyType(_flat(yaml.safe_load(text), ""))


def number(value: Any) -> Any:
    """Return whole numbers with thousands separators and anything else as it is.

    Examples:
        >>> number(1344), number("1344")
        ('1,344', '1344')
    """
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def amount(value: float) -> str:
    """Return an expected number: whole from 10 on, one decimal below.

    Examples:
        >>> amount(116.78), amount(2.44), amount(0.0)
        ('117', '2.4', '0')
    """
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def time_words(hours: float, texts: Texts) -> str:
    """Return a time in hours, or in minutes below one and a half.

    Examples:
        >>> time_words(0.5, Texts("en")), time_words(3.25, Texts("en"))
        ('30 min', '3.2 h')
    """
    minutes = hours * 60
    if minutes < 90:
        return texts("page.minutes", n=max(round(minutes), 1))
    return texts("page.hours", hours=amount(hours))


def percent(share: float) -> str:
    """Return a share as a percentage that never rounds to none or all.

    Examples:
        >>> percent(0.0851), percent(0.284), percent(0.0004), percent(0.9996), percent(1.0)
        ('8.5%', '28%', '<0.1%', '>99.9%', '100%')
    """
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    decimals = 1 if 0 < share < 0.0995 or 0.99 <= share < 1 else 0
    return f"{share:.{decimals}%}"


def shown(name: object, limit: int = 80) -> str:
    r"""Return a name from the data as one printable line of bounded length.

    Control characters and those that turn the writing direction become a replacement sign.

    Examples:
        >>> shown("a\nb" + chr(0x202E) + "c")
        'a�b�c'
        >>> shown("scratch", limit=4)
        'scr…'
    """
    text = str(name)
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join("\ufffd" if _is_control(character) else character for character in text)


def printable(sentence: str) -> str:
    r"""Return a sentence in one line: what is no printable sign becomes its escape.

    Examples:
        >>> printable("class 'a\nb' (12)")
        "class 'a\\nb' (12)"
    """
    return "".join(
        sign if sign.isprintable() or sign == "\u3000" else sign.encode("unicode_escape").decode() for sign in sentence
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in _BIDI


def _flat(entries: dict[str, Any], prefix: str) -> dict[str, str]:
    """Nested mappings as dotted keys."""
    flat: dict[str, str] = {}
    for key, value in entries.items():
        # YAML 1.1 reads a bare `no` or `none` as something else; keys and texts are words here
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return flat
