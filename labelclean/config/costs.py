"""The sections `classes` and `costs`: which class is OK, and what it costs to mistake the others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from labelclean.sections import Section

Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ClassesConfig(Section):
    """What the classes mean.

    Attributes:
        ok: The class of parts without a defect. With it a run tells escapes (a defect labelled OK), overkill (OK labelled
            as a defect) and wrong kinds of defect apart; default: none of the classes is special.
    """

    ok: str | None = None


class ClassCosts(Section):
    """Costs that differ from those of other classes; what is not named is as for all."""

    escape: Cost | None = None
    overkill: Cost | None = None
    wrong_kind: Cost | None = None


class CostsConfig(Section):
    """What a wrong label costs, in any one unit; needs `classes.ok`.

    Attributes:
        escape: Cost of a defect labelled OK. With it the review queue is ordered by the cost that a minute of review is
            expected to save; default: by doubt.
        overkill: Cost of an OK part labelled as a defect.
        wrong_kind: Cost of a defect labelled as another defect; default: as `overkill`.
        by_class: Costs of single defect classes, such as {crack: {escape: 500}}: `escape` and `wrong_kind` of parts that
            show this defect, `overkill` of OK parts that are given it.
    """

    escape: Cost | None = None
    overkill: Cost = 1.0
    wrong_kind: Cost | None = None
    by_class: dict[str, ClassCosts] = Field(default_factory=dict)

    @property
    def is_given(self) -> bool:
        """Whether the queue is to be ordered by cost."""
        return self.escape is not None

    @model_validator(mode="after")
    def _escapes_have_a_cost(self) -> CostsConfig:
        others = sorted({"overkill", "wrong_kind", "by_class"} & self.model_fields_set)
        if others and self.escape is None and self != CostsConfig():
            raise ValueError(f"escape must be set where {', '.join(others)} is: what does a defect labelled OK cost?")
        return self
