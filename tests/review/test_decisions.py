"""Which decisions count, and what several annotators together say; all answers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from labelclean.labels import given_labels
from labelclean.review.decisions import Decision, measure_standing, reviewed_labels, standing_decisions

NAMES = ("ok", "scratch", "dent")
T0 = datetime(2026, 1, 14, 2, 0, tzinfo=UTC)


def decision(kind: str = "corrected", label: str | None = "scratch", *, minutes: int = 0, **changes: Any) -> Decision:
    row = Decision("a", "h1", "ok", kind, "anna", T0 + timedelta(minutes=minutes), "run-1", "line 3", "csv", label)  # type: ignore[arg-type]
    return replace(row, **changes)


def ruling_out(*labels: str, **changes: Any) -> Decision:
    return decision("not_class", None, ruled_out_labels=labels, **changes)


def one_of(*labels: str, **changes: Any) -> Decision:
    return decision("one_of", None, candidate_labels=labels, **changes)


def counting(*decisions: Decision, image: str = "h1", label: str = "ok", reopened: tuple[str, ...] = ()) -> int:
    return len(standing_decisions(decisions, ["a"], [image], [label], reopened)[0])


def standing(*decisions: Decision) -> Any:
    return measure_standing(standing_decisions(decisions, ["a"], ["h1"], ["ok"]), NAMES)


def test_a_decision_counts_only_for_the_image_that_was_judged() -> None:
    assert counting(decision()) == 1
    assert counting(decision(), image="h2") == 0


def test_a_correction_counts_while_the_label_is_the_judged_or_the_verified_one() -> None:
    assert [counting(decision(), label=label) for label in NAMES] == [1, 1, 0]


def test_a_bad_image_counts_until_its_label_changes_but_a_partial_answer_stays() -> None:
    assert counting(decision("bad_image", None), label="dent") == 0
    assert counting(ruling_out("ok"), label="dent") == 1


def test_reopened_samples_have_no_decisions() -> None:
    assert counting(decision(), reopened=("a",)) == 0


def test_the_latest_answer_of_an_annotator_wins_even_when_it_has_become_stale() -> None:
    later = decision(label="dent", minutes=5)
    assert standing(later, decision()).verified.tolist() == [2]
    assert counting(decision(), replace(later, given_label="scratch", decision="confirmed", verified_label="dent")) == 0


def test_a_later_unsure_takes_an_annotators_class_back_to_the_queue() -> None:
    found = standing(decision(), decision("unsure", None, minutes=1))
    assert (found.is_settled.tolist(), found.verified.tolist()) == ([False], [-1])


def test_agreeing_annotators_verify_the_class() -> None:
    found = standing(decision(), decision(annotator_id="ben"))
    assert found.votes.tolist() == [[0, 1, 0]]
    assert found.candidates.tolist() == [[False, True, False]]
    assert found.is_settled.all()
    assert not found.is_disputed.any()


def test_disagreement_becomes_shares_and_not_a_silent_majority() -> None:
    found = standing(decision(), decision(annotator_id="ben"), decision(label="dent", annotator_id="cleo"))
    np.testing.assert_allclose(found.votes, [[0, 2 / 3, 1 / 3]], atol=1e-6)
    assert found.candidates.tolist() == [[False, True, True]]
    assert (found.is_disputed.tolist(), found.verified.tolist()) == ([True], [-1])
    np.testing.assert_allclose(found.agreement, [2 / 3], atol=1e-6)


def test_partial_answers_are_intersected() -> None:
    found = standing(one_of("ok", "dent"), ruling_out("ok", annotator_id="ben"))
    assert found.candidates.tolist() == [[False, False, True]]
    assert not found.is_settled.any()


def test_partial_answers_that_leave_nothing_are_a_dispute_and_leave_all_classes_open() -> None:
    found = standing(one_of("ok", "dent"), ruling_out("ok", "dent", annotator_id="ben"))
    assert found.candidates.all()
    assert found.is_disputed.all()


def test_a_partial_answer_against_a_verified_class_is_a_dispute() -> None:
    found = standing(decision(), ruling_out("scratch", annotator_id="ben"))
    assert found.is_disputed.all()
    assert found.is_settled.all()
    assert found.candidates.all()


def test_a_bad_image_excludes_only_if_nobody_gives_a_class() -> None:
    bad = decision("bad_image", None, annotator_id="ben")
    assert standing(bad).is_excluded.all()
    found = standing(bad, decision())
    assert (found.is_excluded.tolist(), found.is_disputed.tolist()) == ([False], [True])


def test_a_class_that_no_longer_exists_is_reported_and_does_not_count() -> None:
    found = standing(decision(label="rust"))
    assert found.unknown_labels == ("rust",)
    assert not found.is_settled.any()


def test_reviewers_votes_replace_given_labels_and_narrow_candidates() -> None:
    decided = standing_decisions(
        [decision(), ruling_out("ok", sample_id="b", content_hash="h2")],
        ["a", "b", "c"],
        ["h1", "h2", "h3"],
        ["ok"] * 3,
    )
    found = reviewed_labels(given_labels(np.array([0, 0, 0]), 3), measure_standing(decided, NAMES))
    assert found.given.tolist() == [1, 0, 0]
    assert found.candidates.tolist() == [[False, True, False], [False, True, True], [True, True, True]]
    assert found.is_verified.tolist() == [True, False, False]
    assert found.observed.argmax(axis=1).tolist() == [0, 0, 0]  # the noise matrix learns from what was given
    assert found.take(np.array([0])).observed.tolist() == [[1.0, 0.0, 0.0]]


def test_what_reviewers_dispute_among_themselves_is_heard_as_votes() -> None:
    two = [decision(), decision(label="dent", annotator_id="ben")]
    decided = standing_decisions(two, ["a"], ["h1"], ["ok"])
    found = reviewed_labels(given_labels(np.array([0]), 3), measure_standing(decided, NAMES))
    assert found.observed.tolist() == [[0.0, 0.5, 0.5]]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            decision,
            st.sampled_from(["confirmed", "corrected"]),
            st.sampled_from(NAMES),
            minutes=st.integers(0, 3),
            annotator_id=st.sampled_from(["anna", "ben"]),
            sample_id=st.sampled_from(["a", "b"]),
        ),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_decisions_never_matters(rows: list[Decision], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    expected = standing_decisions(rows, ["a", "b"], ["h1", "h1"], ["ok", "ok"])
    assert standing_decisions(shuffled, ["a", "b"], ["h1", "h1"], ["ok", "ok"]) == expected


def audited(**changes: Any) -> Decision:
    return decision("confirmed", "ok", inclusion_probability=0.03, **changes)


def test_only_an_answer_that_verifies_a_drawn_sample_and_still_counts_is_audited() -> None:
    assert standing(audited()).is_audited.tolist() == [True]
    assert standing(replace(audited(), decision="corrected", verified_label="dent")).is_audited.all()
    assert not standing(decision()).is_audited.any()  # verified, but nobody drew it
    for kind in ("unsure", "skipped", "bad_image"):
        assert not standing(decision(kind, None, inclusion_probability=0.03)).is_audited.any()
    assert not standing(one_of("ok", "dent", inclusion_probability=0.03)).is_audited.any()
    assert not standing(audited(), decision("unsure", None, minutes=1)).is_audited.any()  # taken back
    assert not measure_standing(standing_decisions([audited()], ["a"], ["h2"], ["ok"]), NAMES).is_audited.any()


def test_a_disputed_sample_is_not_audited_but_one_that_another_annotator_confirms_is() -> None:
    assert not standing(audited(), decision(annotator_id="ben")).is_audited.any()
    assert standing(audited(), decision("confirmed", "ok", annotator_id="ben")).is_audited.all()


def test_equal_answers_of_one_time_count_as_drawn_in_whatever_order_they_come() -> None:
    drawn = audited()
    plain = replace(drawn, inclusion_probability=None, run_id="run-2")
    assert [standing(*rows).is_audited.all() for rows in ((drawn, plain), (plain, drawn))] == [True, True]


def test_reviewed_labels_know_which_of_them_were_drawn_at_random() -> None:
    rows = [audited(), decision(sample_id="b", content_hash="h2")]
    decided = standing_decisions(rows, ["a", "b", "c"], ["h1", "h2", "h3"], ["ok"] * 3)
    whole = measure_standing(decided, NAMES)
    found = reviewed_labels(given_labels(np.array([0, 0, 0]), 3), whole)
    assert found.is_audited is not None
    assert found.is_audited.tolist() == [True, False, False]
    assert found.take(np.array([2, 0])).is_audited.tolist() == [False, True]  # type: ignore[union-attr]
    nobody = reviewed_labels(given_labels(np.array([0, 0]), 3), whole.take(np.array([1, 2])))
    assert nobody.is_audited is None
    assert nobody.take(np.array([0])).is_audited is None


def none_of(*labels: str, **changes: Any) -> Decision:
    return decision("none_of_these", None, ruled_out_labels=labels, **changes)


def test_none_of_these_takes_the_sample_out_and_settles_it() -> None:
    found = standing(none_of(*NAMES))
    assert (found.fits_none.tolist(), found.is_excluded.tolist(), found.is_settled.tolist()) == ([True], [True], [True])
    assert not found.is_disputed.any()
    assert found.candidates.all()


def test_none_of_these_says_nothing_of_classes_that_are_added_later() -> None:
    decided = standing_decisions([none_of(*NAMES)], ["a"], ["h1"], ["ok"])
    for more in (("burr",), ("burr", "chip")):
        found = measure_standing(decided, (*NAMES, *more))
        assert not found.is_settled.any()
        assert not found.fits_none.any()
        assert found.candidates.tolist() == [[False] * 3 + [True] * len(more)]


def test_other_decisions_keep_their_meaning_when_classes_are_added() -> None:
    for said in (decision(), one_of("ok", "dent"), ruling_out("dent")):
        decided = standing_decisions([said], ["a"], ["h1"], ["ok"])
        before, after = measure_standing(decided, NAMES), measure_standing(decided, (*NAMES, "burr"))
        assert (after.candidates[:, :3] == before.candidates).all()
        assert after.candidates[0, 3] == (said.decision == "not_class")  # it may be the new one
        assert after.verified.tolist() == before.verified.tolist()


def test_none_of_these_holds_though_a_class_of_then_is_no_more() -> None:
    gone = none_of("ok", "dent", "scratch", "gone")
    found = measure_standing([[gone]], ("ok", "dent", "scratch"))
    assert found.fits_none.tolist() == [True]
    assert found.unknown_labels == ()


def test_none_of_these_against_a_class_or_a_choice_of_classes_is_a_dispute() -> None:
    for other in (decision(), one_of("ok", "dent")):
        found = standing(none_of(*NAMES, annotator_id="ben"), other)
        assert found.is_disputed.all()
        assert not found.is_excluded.any()
    both = standing(none_of(*NAMES, annotator_id="ben"), decision("bad_image", None))
    assert (both.is_excluded.tolist(), both.fits_none.tolist(), both.is_disputed.tolist()) == ([True], [False], [False])


def test_none_of_these_stands_until_the_label_is_changed() -> None:
    assert [counting(none_of(*NAMES), label=label) for label in NAMES] == [1, 0, 0]
