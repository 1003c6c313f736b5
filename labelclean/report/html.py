"""From a page's content to one HTML file that needs nothing else: style, script and pictures inside, everything escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from math import ceil, sqrt
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from labelclean.noise.promise import Promise, in_points
from labelclean.report import plots
from labelclean.report.content import FEW_CLASSES
from labelclean.report.page import LARGE_PX, SMALL_PX, Count, Page
from labelclean.review.pictures import Picture, Pictures
from labelclean.texts import Texts, amount, percent, shown, time_words

MAX_CLASS_ROWS = 400
AT_LEAST = {
    "classes_present",
    "teacher_skill",
    "top2_agreement",
    "top2_coverage",
    "tiny_classes",
    "rare_classes",
    "two_classes",
}
_SHARES = {
    "top2_agreement",
    "unstable_share",
    "top2_coverage",
    "estimated_noise",
    "drained_classes",
    "set_noise",
    "set_lost",
    "confusion",
    "shortcuts",
}


def render_page(page: Page, pictures: Pictures, texts: Texts, *, shrunk_to: str | None = None) -> str:
    """Return the report as HTML.

    Args:
        page: What it shows.
        pictures: Thumbnails by sample id and size.
        texts: The language.
        shrunk_to: The size limit in words, where it keeps samples out.

    Returns:
        The whole file.
    """
    style, script = resource("page.css"), resource("page.js")
    style += resource("boxes.css") if any(picture.place for picture in pictures.values()) else ""

    def picture(sample_id: str, px: int) -> Picture:
        return pictures.get((sample_id, px), Picture())

    return (
        environment(texts.lang)
        .get_template("page.html.j2")
        .render(
            page=page,
            t=texts,
            plots=plots,
            picture=picture,
            large=LARGE_PX,
            small=SMALL_PX,
            style=Markup(style),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            policy=policy(style, script),
            shrunk_to=shrunk_to,
            few_rows=FEW_CLASSES,
            max_rows=MAX_CLASS_ROWS,
            level=cell_level,
            measured=gate_number,
            at_least=AT_LEAST,
            finding=lambda gate: finding_sentence(gate, texts),
            verdict=verdict_sentences(page, texts),
            safe=checks_sentence(page, texts),
            queue_time=time_words((page.costs or {}).get("queue_minutes", 0.0) / 60, texts),
            promise=None if page.promise is None else promise_sentence(page.promise, texts),
        )
    )


@cache
def environment(lang: str) -> Environment:
    """Return the templates with the filters that write names and numbers in a language; each is compiled once."""
    templates = Environment(
        loader=PackageLoader("labelclean.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    texts = Texts(lang)
    templates.filters |= {
        "method_name": lambda method: texts(f"methods.{method}"),
        "percent": percent,
        "amount": amount,
        "shown": shown,
    }
    return templates


def fewer(page: Page, top: int) -> Page:
    """Return the page with fewer pictures: the first suspects and twin sets only.

    Args:
        page: The page.
        top: Most samples in the gallery.

    Returns:
        The same page with at most that many suspects and sets; numbers of examples follow.
    """
    suspects = page.suspects[:top]
    held = [(suspect.given, suspect.predicted) for suspect in suspects]
    pairs = tuple(replace(pair, num_shown=held.count((pair.given, pair.predicted))) for pair in page.confusion.pairs)
    return replace(
        page,
        suspects=suspects,
        confusion=replace(page.confusion, pairs=pairs),
        twins=replace(page.twins, sets=page.twins.sets[:top], loose=page.twins.loose[:top]),
        doubles=replace(page.doubles, sets=page.doubles.sets[:top]),
        leak_sets=page.leak_sets[:top],
        unusable=page.unusable and dict(page.unusable) | {"examples": page.unusable["examples"][:top]},
        new_kinds=page.new_kinds[:top],
        shortcuts=[dict(one) | {"examples": one["examples"] if top else []} for one in page.shortcuts],
    )


def verdict_sentences(page: Page, texts: Texts) -> tuple[str, str]:
    """Return the verdict and what to do next, one sentence each.

    Args:
        page: The page.
        texts: The language.

    Returns:
        Two sentences.
    """
    usable = page.num_samples - page.num_rejects
    if page.errors is None or page.num_issues is None:
        if page.num_samples and not usable:
            return texts("verdict.no_images", n=page.num_samples), texts("verdict.next_rejects")
        if page.cause is not None:
            return texts("verdict.nothing_tells"), texts(f"verdict.next_{page.cause}")
        return texts("verdict.refused"), texts("verdict.next_refused")
    if page.verdict == "too_many_rejects":
        share = percent(page.num_rejects / max(page.num_samples, 1))
        verdict = texts("verdict.too_many_rejects", n=page.num_rejects, samples=page.num_samples, share=share)
        return verdict, texts("verdict.next_rejects")
    verdict = _found(page, page.num_issues, page.errors, texts)
    if not page.num_queue or page.queue_errors is None:
        return verdict, texts("verdict.next_nothing")
    errors = page.queue_errors
    interval = {"expected": amount(errors.expected), "low": amount(errors.low), "high": amount(errors.high)}
    if page.queue_minutes is None:
        return verdict, texts("verdict.next_queue", n=page.num_queue, **interval)
    return verdict, texts(
        "verdict.next_queue_timed", n=page.num_queue, time=time_words(page.queue_minutes / 60, texts), **interval
    )


def _found(page: Page, num_issues: int, errors: Count, texts: Texts) -> str:
    """How many labels are worth a look, how many of them we would change, and how many wait for eyes."""
    usable = page.num_judged
    numbers: dict[str, Any] = {
        "n": num_issues,
        "usable": usable,
        "share": percent(num_issues / max(usable, 1)),
        "expected": amount(errors.expected),
        "low": amount(errors.low),
        "high": amount(errors.high),
    }
    if page.one_class is not None:
        share, name = percent(page.one_class["odd_share"]), shown(page.one_class["class_name"], 60)
        return texts("verdict.one_class", n=num_issues, usable=usable, share=share, name=name)
    if not num_issues:
        return texts("verdict.none_found", **numbers)
    parts = [texts("verdict.changed", n=page.num_changed)] if page.num_changed else []
    parts += [texts("verdict.waiting", n=page.num_waiting)] if page.num_waiting else []
    if not parts:  # an older run
        return texts("verdict.found_plain", **numbers)
    return texts("verdict.found", parts=texts("page.comma").join(parts), **numbers)


def promise_sentence(promise: Promise, texts: Texts, *, is_trial: bool = False, group: str = "promise") -> str:
    """Return what applying predicted labels without a look brings, or what has to come before.

    Args:
        promise: What a run or a trial promises.
        texts: The language.
        is_trial: There is no queue yet.
        group: Where the texts are; `sets.promise` where images have several labels.

    Returns:
        One sentence.
    """
    signed = {"points": promise.points, "low": promise.low, "high": promise.high}
    numbers = {name: points(value, is_signed=promise.kind != "safe") for name, value in signed.items()}
    if promise.kind != "unseen":
        return texts(f"{group}.{promise.kind}", looked=promise.num_looks, **numbers)
    form = "unseen_undrawn" if not promise.num_queued else "unseen_trial" if is_trial else "unseen"
    drawn = {"queued": promise.num_queued} if promise.num_queued else {}
    looks = {"wanted": promise.num_wanted, "looked": promise.num_looks}
    return texts(f"{group}.{form}", **looks, **drawn, **numbers)


def points(value: float, *, is_signed: bool = True) -> str:
    """Return points as the page writes them: with a true minus sign.

    Examples:
        >>> points(-5.43), points(9.5), points(9.5, is_signed=False)
        ('−5.4', '+9.5', '9.5')
    """
    return in_points(value, is_signed=is_signed).replace("-", "−")


def checks_sentence(page: Page, texts: Texts) -> str:
    """Return what follows from all checks together, in one sentence.

    Args:
        page: The page.
        texts: The language.

    Returns:
        Whether the labels were cleaned, how, and which refinements were ruled out; nothing without checks.
    """
    if not page.gates:
        return ""
    if page.method is None or page.errors is None:
        return texts("gates.not_cleaned")
    method = texts(f"methods.{page.method}")
    ruled_out = sorted({name for gate in page.gates for name in gate["forbids"]} - {"none"})
    if not ruled_out:
        return texts("gates.cleaned", method=method)
    names = texts("page.comma").join(texts(f"methods.{name}") for name in ruled_out)
    return texts("gates.cleaned_by_rest", method=method, methods=names)


def cell_level(count: int, largest: int) -> int:
    """Return how dark a cell of the confusion is: 0 for none, 5 for the largest.

    Examples:
        >>> [cell_level(count, 100) for count in (0, 1, 25, 100)]
        [0, 1, 3, 5]
    """
    return ceil(5 * sqrt(count / largest)) if count else 0


def gate_number(check: str, value: float | None) -> str:
    """Return a check's value or limit as people read it.

    Examples:
        >>> gate_number("top2_agreement", 0.756), gate_number("imbalance", 20.81), gate_number("imbalance", None)
        ('76%', '20.8', '–')
        >>> gate_number("teacher_skill", -6e-8), gate_number("teacher_skill", 2e-5)
        ('<0', '<0.001')
    """
    if value is None:
        return "–"
    if check in _SHARES:
        return percent(value) if value else "0%"
    if 0 < abs(value) < 0.0005:
        return "<0" if value < 0 else "<0.001"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def finding_sentence(gate: Mapping[str, Any], texts: Texts) -> str | None:
    """Return what a check found, in words of the page's language.

    Args:
        gate: A finding of `summary.json`.
        texts: The language.

    Returns:
        One sentence, or None where the run is older than the words.
    """
    check, facts = gate["check"], gate.get("facts")
    key = f"findings.{check}" + (f"_{facts['case']}" if facts and "case" in facts else "")
    if facts is None or not texts.has(key):
        return None
    own = "shortcuts.properties." if check == "shortcuts" else ""
    names = [
        quoted(texts(own + name) if own and texts.has(own + name) else name, texts) for name in facts.get("names", [])
    ]
    joint = texts("page.comma")
    counted = joint.join(f"{name} ({count:,})" for name, count in zip(names, facts.get("counts", []), strict=False))
    if (more := int(facts.get("total", 0)) - len(names)) > 0 and counted:
        counted = texts("findings.more", names=counted, n=more)
    shares = {name: percent(facts[name]) for name in ("share", "below") if name in facts}
    ends = dict(zip(("first", "second"), names, strict=False))
    whole = {name: facts[name] for name in ("lost", "gained", "total", "pairs", "key") if name in facts}
    value = gate_number(check, gate["value"])
    return texts(key, value=value, names=joint.join(names), counted=counted, **shares, **ends, **whole)


def quoted(name: str, texts: Texts) -> str:
    """Return a class name in the quotation marks of the language."""
    return texts("page.quoted", name=shown(name, 60))


def policy(style: str, script: str) -> str:
    """Return a content security policy that lets in this style, this script and inline pictures, and nothing else."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def resource(name: str) -> str:
    """Return one of the page's own files."""
    return files("labelclean.report").joinpath(name).read_text(encoding="utf-8").strip() + "\n"
