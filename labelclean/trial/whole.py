"""The whole data set that a trial stands for, and what computing and looking would take for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelclean.config import Config

if TYPE_CHECKING:
    import pyarrow as pa

    from labelclean.trial.forecast import ImageCost


@dataclass(frozen=True)
class Whole:
    """A data set of which some samples are tried.

    Attributes:
        config: Its configuration.
        samples: Table `samples` of it; where labels are those of parts, one for each part.
        names: The K class names.
        num_images: Its images.
        cost: What reading and extracting an image takes here.
        seconds_per_sample: Seconds that a person takes to review one sample.
    """

    config: Config
    samples: pa.Table
    names: tuple[str, ...]
    num_images: int
    cost: ImageCost
    seconds_per_sample: float

    def num_usable(self, num_drawn: int, rejects: Mapping[str, int]) -> float:
        """Return how many of its samples can be used, by the share of the drawn ones that can.

        Args:
            num_drawn: Samples drawn.
            rejects: How many of these cannot be used, by reason.

        Returns:
            An expected number.
        """
        return float(self.samples.num_rows * (1.0 - sum(rejects.values()) / max(num_drawn, 1)))

    def effort(self, num_usable: float, num_review: float, clean_s: float) -> dict[str, Any]:
        """Return what the computer and people have to do.

        Args:
            num_usable: Samples that can be used.
            num_review: Samples that people look at.
            clean_s: Seconds to clean the labels, once features are there.

        Returns:
            JSON values of the section `cost` of `poc.json`.
        """
        compute_s = self.num_images * (self.cost.hash_s + self.cost.extract_s) + self.cost.start_s + clean_s
        return {
            "compute_h": compute_s / 3600,
            "images_per_s": 1.0 / self.cost.extract_s,
            "device": self.cost.device,
            "num_review": num_review,
            "num_usable": num_usable,
            "seconds_per_sample": self.seconds_per_sample,
            "review_h": num_review * self.seconds_per_sample / 3600,
        }
