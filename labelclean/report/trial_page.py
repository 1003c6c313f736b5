"""A trial's numbers as sentences and as one HTML file, in the report's style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from labelclean.noise.promise import WrongShare, promise_of
from labelclean.report import html, plots
from labelclean.texts import Texts, amount, percent, time_words


def trial_sentences(record: Mapping[str, Any], texts: Texts) -> list[str]:
    """Return the recommendation, what it would cost and bring, what applying would bring, and the reasons.

    Args:
        record: `poc.json`.
        texts: The language.

    Returns:
        One sentence each.
    """
    advice = record["recommendation"]
    return [
        advice_sentence(record, texts),
        brings(record, texts),
        *promises(record, texts),
        *oddest(record, texts),
        *(reason_sentence(reason, texts) for reason in advice["reasons"]),
        *backbone_sentences(record, texts),
    ]


def backbone_sentences(record: Mapping[str, Any], texts: Texts) -> list[str]:
    """Return which backbone to take, and what each told; none where none were compared.

    Args:
        record: `poc.json`.
        texts: The language.

    Returns:
        One sentence each, the recommendation first.
    """
    trials = record.get("backbones", [])
    rows = [
        texts(
            "poc.backbone" if trial["behind"] else "poc.backbone_best",
            spec=trial["spec"],
            gain=f"{trial['gain']:.3f}",
            behind=f"{trial['behind']:.3f}",
            error=f"{trial['behind_error']:.3f}",
            rate=amount(trial["images_per_s"]),
            hours=time_words(trial["compute_h"], texts),
        )
        for trial in trials
    ]
    return [backbone_advice(record, texts), *rows] if trials else []


def backbone_advice(record: Mapping[str, Any], texts: Texts) -> str:
    """Return which backbone to take and why, in words; empty where none were compared."""
    trials = record.get("backbones", [])
    if not trials:
        return ""
    chosen = next(trial for trial in trials if trial["is_recommended"])
    kind = "most" if chosen is trials[0] else "cheaper"
    return texts(f"poc.backbone_{kind}", spec=chosen["spec"], best=trials[0]["spec"])


def advice_sentence(record: Mapping[str, Any], texts: Texts) -> str:
    """Return the recommendation in words."""
    advice = record["recommendation"]["advice"]
    return texts("poc.stop_here" if advice == "no" else f"poc.{advice}")  # YAML reads a bare `no` as a boolean


def brings(record: Mapping[str, Any], texts: Texts) -> str:
    """Return what reviewing the whole data set would cost and bring, in words."""
    cost = record["cost"]
    if "one_class" in record:
        trial = record["one_class"]
        return texts(
            "poc.one_class_brings",
            share=percent(trial["odd_share"]),
            name=html.quoted(trial["class_name"], texts),
            errors=amount(cost["errors"]),
            num=record["num_samples"],
            review=round(cost["num_review"]),
            hours=time_words(cost["review_h"], texts),
        )
    return texts(
        _key(record, "brings"),
        errors=amount(cost["errors"]),
        low=amount(cost["errors_low"]),
        high=amount(cost["errors_high"]),
        num=record["num_samples"],
        review=round(cost["num_review"]),
        hours=time_words(cost["review_h"], texts),
        found=amount(cost["found"]),
    )


def oddest(record: Mapping[str, Any], texts: Texts) -> list[str]:
    """Return which images of a trial of one class look least like the others; none of a trial of more."""
    trial = record.get("one_class")
    names = [] if trial is None else [html.quoted(name, texts) for name in trial["oddest"]]
    return [texts("poc.oddest", names=texts("page.comma").join(names))] if names else []


def promises(record: Mapping[str, Any], texts: Texts) -> list[str]:
    """Return what is worth a look, what applying predicted labels brings, and what random looks would tell.

    Args:
        record: `poc.json`.
        texts: The language.

    Returns:
        Three sentences, two where images have several labels; none for a trial of an older labelclean.
    """
    promise, cost = promise_of(record), record["cost"]
    if promise is None or "one_class" in record:
        return []
    num, changed = round(cost["num_suspects"]), round(cost["num_changed"])
    look = texts(_key(record, "look"), num=num, changed=changed, waiting=num - changed)
    if record.get("several_labels"):
        return [look, html.promise_sentence(promise, texts, is_trial=True, group="sets.promise")]
    wrong = WrongShare(**record["wrong"])
    after = {"low_after": percent(wrong.low_after), "high_after": percent(wrong.high_after)} if wrong.narrows else {}
    looks = texts(
        "poc.looks" if wrong.narrows else "poc.looks_same",
        low=percent(wrong.low),
        high=percent(wrong.high),
        more=wrong.num_more,
        **after,
    )
    if promise.kind != "nothing":
        low, high = html.points(promise.low_after), html.points(promise.high_after)
        looks += texts("page.join") + texts("poc.looks_gain", low=low, high=high)
    return [
        look,
        html.promise_sentence(promise, texts, is_trial=True),
        looks,
    ]


def reason_sentence(reason: Mapping[str, Any], texts: Texts) -> str:
    """Return a reason in words.

    Args:
        reason: One of `recommendation.reasons`.
        texts: The language.

    Returns:
        One sentence.
    """
    facts, joint = reason["facts"], texts("page.comma")
    told: dict[str, Any] = {}
    for key, value in facts.items():
        if key in ("share", "value"):
            told[key] = percent(value) if value is not None else ""
        elif key == "gain":
            told[key] = f"{value:.3f}"
        elif key in ("found", "expected", "times"):
            told[key] = amount(value)
        elif key == "method":
            told[key] = texts(f"methods.{value}")
        elif key == "num":
            told[key] = value
    names = [html.quoted(name, texts) for name in facts.get("names", [])]
    told["counted"] = joint.join(f"{name} ({num:,})" for name, num in zip(names, facts.get("counts", []), strict=False))
    told |= {
        ours: html.quoted(facts[key], texts) for ours, key in (("first", "name"), ("second", "other")) if key in facts
    }
    return texts(f"poc.reasons.{reason['code']}", **told)


def _key(record: Mapping[str, Any], name: str) -> str:
    """The text for labels, or for images that may have several."""
    return f"poc.sets.{name}" if record.get("several_labels") else f"poc.{name}"


def render_trial(record: Mapping[str, Any], texts: Texts) -> str:
    """Return a trial's page as HTML that needs nothing else.

    Args:
        record: `poc.json`.
        texts: The language.

    Returns:
        The whole file.
    """
    style = html.resource("page.css")
    return (
        html.environment(texts.lang)
        .get_template("poc.html.j2")
        .render(
            poc=record,
            key=lambda name: _key(record, name),
            t=texts,
            style=Markup(style),  # noqa: S704 - our own file
            policy=html.policy(style, ""),
            advice=advice_sentence(record, texts),
            brings=brings(record, texts),
            promises=promises(record, texts),
            backbone_advice=backbone_advice(record, texts),
            said=lambda reason: reason_sentence(reason, texts),
            hours=lambda value: time_words(value, texts),
            finding=lambda gate: html.finding_sentence(gate, texts),
            curve=plots.gain_curve([(point["num_samples"], point["gain"]) for point in record.get("curve", [])], texts),
        )
    )
