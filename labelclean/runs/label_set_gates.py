"""The gates over several labels per image: what each class's question came to, one finding for all classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from labelclean.errors import listed
from labelclean.runs.gates import Finding, Verdict


@dataclass(frozen=True)
class ClassVerdict:
    """What the gates say of the question about one class.

    Attributes:
        state: `judged`; `closed`: all images have it, or none; `chance`: the images say no more of it than chance would.
        gates: What the gates of single labels say of its two answers.
        estimated_noise: Estimated share of images that were given the wrong answer, 0..1.
        is_alone: All images that have it are of one group, so that nothing can vouch for them.
        refusal: Where the images say nothing of it: the record of a run that stops for that, with the cause.
    """

    state: Literal["judged", "closed", "chance"]
    gates: Verdict = field(default_factory=lambda: Verdict(()))
    estimated_noise: float = 0.0
    is_alone: bool = False
    refusal: Mapping[str, Any] = field(default_factory=dict)

    @property
    def allowed(self) -> tuple[str, ...]:
        """Refinements that no finding rules out."""
        return self.gates.allowed


def set_findings(
    verdicts: Mapping[str, ClassVerdict],
    moves: Mapping[str, tuple[int, int, int]],
    max_noise: float,
    max_lost_share: float,
) -> list[Finding]:
    """Return the findings on all classes.

    Args:
        verdicts: What the gates say of each class, by name.
        moves: Labels that each judged class would lose, gain, and has, by name.
        max_noise: `gates.top2.max_noise`.
        max_lost_share: `gates.class_distribution.max_lost_share`.

    Returns:
        Findings; none of them rules a refinement out for all classes.
    """
    of_state = {
        state: [name for name, one in verdicts.items() if one.state == state]
        for state in ("judged", "closed", "chance")
    }
    findings = [_told(of_state["chance"], len(of_state["judged"]))] if of_state["judged"] or of_state["chance"] else []
    if of_state["closed"]:
        findings.append(closed_finding(of_state["closed"]))
    alone = [name for name, one in verdicts.items() if one.is_alone]
    if alone:
        sentence = (
            f"all images with {listed(alone)} lie in one group: nothing outside it can vouch for them, so what was given of "
            "it stands there."
        )
        findings.append(
            Finding("set_one_group", "warn", float(len(alone)), 0.0, None, sentence, facts={"names": alone})
        )
    if of_state["judged"]:
        findings.append(_noise({name: verdicts[name].estimated_noise for name in of_state["judged"]}, max_noise))
        findings.append(_lost(moves, max_lost_share))
    return findings


def _told(by_chance: Sequence[str], num_judged: int) -> Finding:
    """Of which classes the images say nothing."""
    facts = {"names": list(by_chance), "total": num_judged + len(by_chance)}
    if not by_chance:
        sentence = f"the images say more than chance would of each of {num_judged:,} classes."
        return Finding("set_skill", "pass", 0.0, 0.0, None, sentence, facts=facts | {"case": "all"})
    sentence = f"the images say no more of {listed(list(by_chance))} than chance would: what was given of it stands."
    return Finding("set_skill", "warn", float(len(by_chance)), 0.0, None, sentence, facts=facts)


def closed_finding(names: Sequence[str]) -> Finding:
    """Return the finding on classes that all images have, or none."""
    sentence = f"{listed(list(names))} is on all images or on none of them: nothing can be learned of it, and it stands as given."
    return Finding("set_closed", "warn", float(len(names)), 0.0, None, sentence, facts={"names": list(names)})


def _noise(noise: Mapping[str, float], limit: float) -> Finding:
    """The class of which most answers are estimated to be wrong."""
    worst = max(noise, key=lambda name: noise[name])
    key, value = "gates.top2.max_noise", noise[worst]
    held = value <= limit
    sentence = (
        f"the estimated share of images on which {worst!r} is missing or too many, the most of all classes: {value:.3g}, "
        f"{'at most' if held else 'above'} {key} = {limit:g}{'.' if held else ': what was given of it stands.'}"
    )
    return Finding("set_noise", "pass" if held else "warn", value, limit, key, sentence, facts={"names": [worst]})


def _lost(moves: Mapping[str, tuple[int, int, int]], limit: float) -> Finding:
    """The class that would lose the largest share of its labels."""
    share = {name: (lost - gained) / max(total, 1) for name, (lost, gained, total) in moves.items()}
    worst = max(share, key=lambda name: share[name])
    lost, gained, total = moves[worst]
    key = "gates.class_distribution.max_lost_share"
    facts = {"names": [worst], "lost": lost, "gained": gained, "total": total}
    sentence = f"{worst!r} would lose {lost:,} and gain {gained:,} of its {total:,} labels"
    if share[worst] <= limit:
        return Finding(
            "set_lost", "pass", share[worst], limit, key, f"{sentence}, the most of all classes.", facts=facts
        )
    sentence += f", more than {key} = {limit:g}; look at its suspects before you use the predicted labels."
    return Finding("set_lost", "warn", share[worst], limit, key, sentence, facts=facts)
