"""The sections about people: `flags`, `review`, `study` and `ledger`."""

from __future__ import annotations

from pydantic import Field, field_validator

from labelclean.sections import ConfigPath, Section, Share


class SecretInConfig(ValueError):  # noqa: N818 - pydantic wants a ValueError; the message is all that matters
    """A password stands where it would be copied into manifests."""

    def __str__(self) -> str:
        return "must not hold a password; put the whole URL into the environment variable LABELCLEAN_LEDGER_URL"


class FlagsConfig(Section):
    """When a sample gets a reason beside its score.

    Attributes:
        narrow_margin: Top-2 margin under which a sample counts as undecided.
        neighbours_share: Vote share of one other class from which the neighbours disagree.
        rare_class_count: A move into or out of a class with fewer samples is named.
        outlier_z: How many spreads of its set and of its class a picture must lie outside to be called dark, bright, of low
            contrast, blank, blurred, of odd size or depth, or an outlier.
    """

    narrow_margin: Share = 0.1
    neighbours_share: Share = 0.7
    rare_class_count: int = Field(default=60, ge=1)
    outlier_z: float = Field(default=3.0, gt=0)


class ReviewConfig(Section):
    """The queue that annotators see.

    Attributes:
        budget: Most samples in the queue; default: all that are flagged.
        minutes: Most minutes of looking, at `review.seconds_per_sample`; the lower of both limits holds.
        seconds_per_sample: How long one sample takes a person; `labelclean status` measures it.
        audit_samples: Random looks that a data set should rest on: as many as are missing are drawn at random from all
            that nobody has settled, before anything is ranked, and shown without a suggestion; with a budget at most half
            of the places.
        unusable_share: Most places that pictures may take that look unusable, as a share of the places, or of all samples
            without a budget; 0: none, and what was stored before it was measured is not opened again for it.
        class_floor: Least number of queue places per class when it has that many doubtful samples.
        neighbours: How many trusted neighbours are named beside each sample.
        reopen: Sample ids that come back although people have settled them.
    """

    budget: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    seconds_per_sample: float = Field(default=10.0, gt=0)
    audit_samples: int = Field(default=30, ge=0)
    unusable_share: float = Field(default=0.05, ge=0, le=1)
    class_floor: int = Field(default=3, ge=0)
    neighbours: int = Field(default=5, ge=0, le=20)
    reopen: tuple[str, ...] = ()

    @property
    def places(self) -> int | None:
        """Most samples in the queue by both limits, at least 1; None without a limit."""
        in_time = None if self.minutes is None else max(int(self.minutes * 60 / self.seconds_per_sample), 1)
        return min((limit for limit in (self.budget, in_time) if limit is not None), default=None)


class StudyConfig(Section):
    """What an attribute agreement study asks for; the usual limits of gauge studies (AIAG MSA).

    Attributes:
        ok: The class of parts without a defect, for effectiveness, misses and false alarms; default: `classes.ok`;
            without either none of these.
        least_kappa: Kappa that agreement should reach.
        least_effectiveness: Share of samples that should be called OK or not OK rightly every time.
        most_missed: Share of looks at defects that may be called OK.
        most_false_alarms: Share of looks at OK parts that may be called a defect.
        measured: `agreement.json` of a study: how often its inspectors took which class for which goes into the noise model
            as a prior; default: nothing does.
        worth: Most samples that this counts for in each class.
    """

    ok: str | None = None
    least_kappa: float = Field(default=0.75, ge=0, le=1)
    least_effectiveness: Share = 0.9
    most_missed: Share = 0.02
    most_false_alarms: Share = 0.05
    measured: ConfigPath | None = None
    worth: float = Field(default=50.0, gt=0)


class LedgerConfig(Section):
    """Where reviewers' decisions are remembered.

    Attributes:
        url: SQLAlchemy URL without a password; default: the SQLite file `ledger.db` beside
            `storage.runs`. The environment variable LABELCLEAN_LEDGER_URL goes before it and
            may hold a password.
    """

    url: str | None = None

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is not None and ":" in url.partition("://")[2].rpartition("@")[0]:
            raise SecretInConfig
        return url
