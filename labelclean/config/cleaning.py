"""The sections of the method, `neighbours`, `teacher` and `refine`, and all that the computation sees."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from labelclean.config.gates import GatesConfig
from labelclean.sections import ConfigPath, Section

RefineMethod = Literal["auto", "two_hot", "multi_round", "adaptive", "posterior", "none"]
METHODS: tuple[str, ...] = get_args(RefineMethod)[1:]
REFINEMENTS = METHODS[:-1]
"""The methods that change labels, the weakest first."""


class NeighboursConfig(Section):
    """Nearest neighbours in feature space.

    Attributes:
        method: `exact` compares all pairs in blocks, `index` uses faiss (its recall is measured against
            exact search and told in the summary), `none` does without, `auto` is exact up to `exact_limit`
            samples and index above. `exact` needs all samples in memory: up to `teacher.choice_rows`.
        k: Neighbours that vote; default: 10 or 20, whichever makes the given labels likelier.
        exact_limit: Samples above which `auto` takes the index: there comparing all pairs takes as long as all the rest.
        duplicate_similarity: Cosine similarity from which two images count as
            near-duplicates; default: found from the data.
        odd_share: With a single class, the share of its images that are expected not to belong to it: so many of those that
            look least like the others are worth a look. State it; images of one class do not tell.
    """

    method: Literal["auto", "exact", "index", "none"] = "auto"
    k: int | None = Field(default=None, ge=1, le=200)
    exact_limit: int = Field(default=20_000, ge=1)
    duplicate_similarity: float | None = Field(default=None, gt=0.5, le=1.0)
    odd_share: float = Field(default=0.05, gt=0, lt=0.5)


class TeacherConfig(Section):
    """The linear-probe teacher.

    Attributes:
        folds: Cross-fitting folds; a group is never split.
        left_out: What the probe behind a sample's evidence never saw: its `group` (itself, its near-duplicates, its lot)
            or its `fold`; `auto` is `group` up to 10,000 samples, where no group is large, and `fold` beyond: there a
            fold is a small part of what is learned from. `group` needs all samples in memory: up to `choice_rows`.
        power: Features are taken as sign(x) |x|^power; `auto` takes 1 or 0.5, whichever makes the given labels likelier.
        lambdas: Weight decays to choose among, as N lambda (the ridge penalty is c = K N lambda);
            the choice looks at the given labels only; default: 0.001 to 100.
        landmarks: Samples that the kernel expert compares with; 0 leaves it out.
        choice_rows: Samples on which choices are made, drawn by a hash of their ids; of more samples the others are known
            by sums over all and scored block by block. 100 per class where that is more, up to 200,000.
        repeats: Refits for the top-2 stability.
        pred_probs: Parquet with `sample_id` and out-of-sample probabilities to use in place of the teacher: `pred_probs`
            with lists in the order of `data.class_names`, or a column for every class by its name.
    """

    folds: int = Field(default=5, ge=2, le=20)
    left_out: Literal["auto", "group", "fold"] = "auto"
    power: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    lambdas: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    landmarks: int = Field(default=500, ge=0, le=5000)
    choice_rows: int = Field(default=50_000, ge=100, le=1_000_000)
    repeats: int = Field(default=10, ge=2, le=100)
    pred_probs: ConfigPath | None = None


class RefineConfig(Section):
    """How the student's targets are made.

    Attributes:
        method: `auto` picks by the gates' measurements and the likelihood of the given labels.
        rounds: Rounds of label averaging (`multi_round`) or student rounds (`posterior`);
            default: chosen on the given labels.
        loss: Loss of the two-hot student.
        candidates: Classes in a partial label.
        weights: `equal` gives each candidate the same weight, `teacher` the teacher's.
    """

    method: RefineMethod = "auto"
    rounds: int | None = Field(default=None, ge=1, le=20)
    loss: Literal["ce", "gce"] = "gce"
    candidates: Literal[2] = 2
    weights: Literal["equal", "teacher"] = "equal"


class CleaningConfig(Section):
    """The part of the configuration that the computation sees: no file, no device, no tool."""

    neighbours: NeighboursConfig = NeighboursConfig()
    teacher: TeacherConfig = TeacherConfig()
    refine: RefineConfig = RefineConfig()
    gates: GatesConfig = GatesConfig()
