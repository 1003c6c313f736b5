"""The section `gates`: when cleaning is refused."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from labelclean.sections import Section, Share

Outcome = Literal["pass", "warn", "refuse"]
"""What a measured value comes to against its limit."""


class DistributionGateConfig(Section):
    """Limits of the class distribution check.

    Attributes:
        min_class_count: Fewer samples than this in a class: refuse to refine into or out of it.
        warn_class_count: Fewer than this: warn.
        max_imbalance: Largest class over smallest class.
        max_psi: Population stability index against the reference run.
        max_lost_share: Share of a class that averaging may take away.
    """

    min_class_count: int = Field(default=5, ge=1)
    warn_class_count: int = Field(default=30, ge=1)
    max_imbalance: float = Field(default=1000.0, ge=1.0)
    max_psi: float = Field(default=0.25, gt=0)
    max_lost_share: Share = 0.5


class Top2GateConfig(Section):
    """Limits of the teacher top-2 stability check.

    Attributes:
        min_agreement: Mean share of refits that agree on a sample's pair, below it two-hot is refused.
        max_unstable_share: Share of samples whose agreement is under `unstable_below`.
        unstable_below: Agreement under which a sample counts as unstable.
        min_coverage: Share of given labels that lie in the teacher's pair, below it two-hot is refused.
        max_concentration: C_kk + max C_kl above which a class's errors go to one class: two-hot is refused.
        max_confuser_share: Share of a class's errors that go to its main confuser.
        max_noise: Estimated share of wrong labels above which refining is refused.
    """

    min_agreement: Share = 0.8
    max_unstable_share: Share = 0.3
    unstable_below: Share = 0.6
    min_coverage: Share = 0.6
    max_concentration: Share = 0.95
    max_confuser_share: Share = 0.8
    max_noise: Share = 0.6


class ShortcutsGateConfig(Section):
    """Limits of what may tell the label beside what a picture shows.

    Attributes:
        max_share: Share of all that there is to tell of a label (the entropy of the classes) that a column or a property
            of the pictures may tell; above it a run warns.
    """

    max_share: Share = 0.1


class GatesConfig(Section):
    """What happens when a measurement is beyond its limit.

    Attributes:
        on_refusal: `fall_back` takes the best refinement that the measurements allow, `stop`
            publishes the measurements without refined labels and ends with exit code 3.
    """

    on_refusal: Literal["fall_back", "stop"] = "fall_back"
    class_distribution: DistributionGateConfig = DistributionGateConfig()
    top2: Top2GateConfig = Top2GateConfig()
    shortcuts: ShortcutsGateConfig = ShortcutsGateConfig()
