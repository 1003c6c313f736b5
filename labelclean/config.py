"""Turns `config.yaml` into frozen pydantic models, one section per subject, and refuses unknown keys.

Relative paths are taken from the folder of the config file, so a run does not
depend on where it was started.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from labelclean.config_adapt import AdaptConfig
from labelclean.errors import ConfigError
from labelclean.sections import ConfigPath, Section, Share

RefineMethod = Literal["auto", "two_hot", "multi_round", "adaptive", "posterior", "none"]


Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=4)]


class SecretInConfig(ValueError):  # noqa: N818 - pydantic wants a ValueError; the message is all that matters
    """A password stands where it would be copied into manifests."""

    def __str__(self) -> str:
        return "must not hold a password; put the whole URL into the environment variable LABELCLEAN_LEDGER_URL"


class DataConfig(Section):
    """What goes in.

    Attributes:
        labels: Parquet file, folder or hive-partitioned folder.
        image_root: Folder that `image_path` is relative to; default: the folder of the labels.
        class_names: The classes in order; default: the names found, sorted.
    """

    labels: ConfigPath
    image_root: ConfigPath | None = None
    class_names: tuple[str, ...] | None = None

    @field_validator("class_names")
    @classmethod
    def _at_least_two_distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and (len(names) < 2 or len(set(names)) != len(names)):
            raise ValueError("must be at least 2 names, none twice")
        return names


class DecodeConfig(Section):
    """How pixels become numbers; the same for features and for previews.

    Attributes:
        window: `full_range` maps 0..2^bits-1 to 0..1; `percentile` maps the image's own
            percentiles; `fixed` maps low..high; `auto` is full_range for 8-bit files and
            percentile for deeper ones.
        bit_depth: Bits really used in files deeper than 8 bits (12 for a 12-bit camera that
            writes 16-bit files); default: the container's depth.
        percentiles: Lower and upper percentile of the percentile window.
        low: Pixel value that becomes 0 under `fixed`.
        high: Pixel value that becomes 1 under `fixed`.
        max_pixels: Larger images are rejected before they are decoded.
        max_bytes: Larger files are rejected before they are read.
        timeout_s: Seconds one image may take to decode.
        page: What to do with files of several pages.
        jpeg: `scaled` decodes large JPEG files for the network at 1/2, 1/4 or 1/8 of their size, never below its
            input size: two to three times as fast; `full` decodes them whole.
    """

    window: Literal["auto", "full_range", "percentile", "fixed"] = "auto"
    bit_depth: Literal[8, 10, 12, 14, 16] | None = None
    percentiles: tuple[float, float] = (0.1, 99.9)
    low: float | None = None
    high: float | None = None
    max_pixels: int = Field(default=100_000_000, gt=0)
    max_bytes: int = Field(default=500_000_000, gt=0)
    timeout_s: float = Field(default=20.0, gt=0)
    page: Literal["refuse", "first"] = "refuse"
    jpeg: Literal["scaled", "full"] = "scaled"

    @model_validator(mode="after")
    def _window_is_whole(self) -> DecodeConfig:
        if self.window == "fixed" and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError(f"window 'fixed' needs low < high, found low={self.low!r}, high={self.high!r}")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles must rise within 0..100, found {self.percentiles!r}")
        return self


class BackboneConfig(Section):
    """The frozen network that turns an image into a feature row.

    Attributes:
        name: A timm model name.
        pretrained: Fetch timm's own weights (needs the network once).
        weights: A local safetensors or state-dict file.
        sha256: Digest that the weights file must have.
        options: Keyword arguments for `timm.create_model`.
        mean: Channel means after scaling to 0..1; default: timm's data config.
        std: Channel standard deviations; default: timm's data config.
        input_size: Height and width in pixels, or one number; default: timm's data config.
        resize: `squash` keeps all of the image and changes its shape, `pad` keeps both,
            `crop` keeps the shape and loses the rim.
        batch_size: Images per forward pass; default: 32 on CPU, 256 on GPU.
        precision: `auto` is bf16 where the device computes it fast, else fp32.
        workers: Decoding processes; default: from the number of cores.
    """

    name: str
    pretrained: bool = False
    weights: ConfigPath | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    options: dict[str, Any] = Field(default_factory=dict)
    mean: Channels | None = None
    std: Channels | None = None
    input_size: tuple[int, int] | None = None
    resize: Literal["squash", "pad", "crop"] = "squash"
    batch_size: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    workers: int | None = Field(default=None, ge=0)

    @field_validator("input_size", mode="before")
    @classmethod
    def _one_number_is_a_square(cls, size: object) -> object:
        return (size, size) if isinstance(size, int) else size

    @field_validator("input_size")
    @classmethod
    def _not_tiny(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None and min(size) < 16:
            raise ValueError("must be at least 16 pixels")
        return size


class NeighboursConfig(Section):
    """Nearest neighbours in feature space.

    Attributes:
        method: `exact` compares all pairs in blocks, `index` uses faiss (its recall is measured against
            exact search and told in the summary), `none` does without, `auto` is exact up to `exact_limit`
            samples and index above, where faiss is installed. Out of core `auto` does without, `index` must
            be asked for, and `exact` is refused.
        k: Neighbours that vote; default: 10 or 20, whichever makes the given labels likelier.
        exact_limit: Samples above which `auto` takes the index.
        duplicate_similarity: Cosine similarity from which two images count as
            near-duplicates; default: found from the data.
    """

    method: Literal["auto", "exact", "index", "none"] = "auto"
    k: int | None = Field(default=None, ge=1, le=200)
    exact_limit: int = Field(default=100_000, ge=1)
    duplicate_similarity: float | None = Field(default=None, gt=0.5, le=1.0)


class TeacherConfig(Section):
    """The linear-probe teacher.

    Attributes:
        folds: Cross-fitting folds; a group is never split.
        left_out: What the probe behind a sample's evidence never saw: its `group` (itself, its near-duplicates, its lot)
            or its `fold`; `auto` is `group` up to 10,000 samples, beyond that `group` for the choice of the weight decay
            and `fold` for the evidence. Out of core it is always the fold.
        power: Features are taken as sign(x) |x|^power; `auto` takes 1 or 0.5, whichever makes the given labels likelier.
            Out of core `auto` is 1.
        lambdas: Weight decays to choose among, as N lambda (the ridge penalty is c = K N lambda);
            the choice looks at the given labels only; default: 0.001 to 100.
        landmarks: Samples that the kernel view compares with; 0 leaves it out.
        repeats: Refits for the top-2 stability.
        pred_probs: Parquet with `sample_id` and `pred_probs` (out of sample) to use in place
            of the teacher.
    """

    folds: int = Field(default=5, ge=2, le=20)
    left_out: Literal["auto", "group", "fold"] = "auto"
    power: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    lambdas: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    landmarks: int = Field(default=500, ge=0, le=5000)
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


class GatesConfig(Section):
    """What happens when a measurement is beyond its limit.

    Attributes:
        on_refusal: `fall_back` takes the best refinement that the measurements allow, `stop`
            publishes the measurements without refined labels and ends with exit code 3.
    """

    on_refusal: Literal["fall_back", "stop"] = "fall_back"
    class_distribution: DistributionGateConfig = DistributionGateConfig()
    top2: Top2GateConfig = Top2GateConfig()


class FlagsConfig(Section):
    """When a sample gets a reason beside its score.

    Attributes:
        narrow_margin: Top-2 margin under which a sample counts as undecided.
        neighbours_share: Vote share of one other class from which the neighbours disagree.
        rare_class_count: A move into or out of a class with fewer samples is named.
        outlier_z: Robust z-score of the neighbour similarity from which an image is an outlier.
    """

    narrow_margin: Share = 0.1
    neighbours_share: Share = 0.7
    rare_class_count: int = Field(default=60, ge=1)
    outlier_z: float = Field(default=5.0, gt=0)


class ReviewConfig(Section):
    """The queue that annotators see.

    Attributes:
        budget: Most samples in the queue; default: all that are flagged.
        minutes: Most minutes of looking, at `review.seconds_per_sample`; the lower of both limits holds.
        seconds_per_sample: How long one sample takes a person; `labelclean status` measures it.
        audit_samples: Samples drawn at random from all that nobody has settled, before anything is ranked, and shown
            without a suggestion; with a budget at most half of the places.
        class_floor: Least number of queue places per class when it has that many doubtful samples.
        neighbours: How many trusted neighbours are named beside each sample.
        reopen: Sample ids that come back although people have settled them.
    """

    budget: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    seconds_per_sample: float = Field(default=10.0, gt=0)
    audit_samples: int = Field(default=30, ge=0)
    class_floor: int = Field(default=3, ge=0)
    neighbours: int = Field(default=5, ge=0, le=20)
    reopen: tuple[str, ...] = ()

    @property
    def places(self) -> int | None:
        """Most samples in the queue by both limits, at least 1; None without a limit."""
        in_time = None if self.minutes is None else max(int(self.minutes * 60 / self.seconds_per_sample), 1)
        return min((limit for limit in (self.budget, in_time) if limit is not None), default=None)


class RejectsConfig(Section):
    """Images that cannot be used.

    Attributes:
        max_share: Above it the run keeps everything but ends with exit code 3.
    """

    max_share: Share = 0.05


class ExpectationsConfig(Section):
    """The Great Expectations report on the labels table.

    Attributes:
        enabled: Run the suite beside labelclean's own check (adds its import time).
        data_docs: Write its HTML pages into the run folder.
        min_rows: Least rows of the labels table.
        max_class_share: Largest share that one class may have.
    """

    enabled: bool = True
    data_docs: bool = False
    min_rows: int = Field(default=20, ge=1)
    max_class_share: Share = 0.999


class StorageConfig(Section):
    """Where runs and cached features live.

    Attributes:
        runs: Holds one folder per run and nothing else.
        cache: Features by image content; may be deleted at any time.
    """

    runs: ConfigPath = Field(default=Path("runs"), validate_default=True)
    cache: ConfigPath = Field(default=Path("cache"), validate_default=True)


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


class IngestConfig(Section):
    """Which label files a run reads.

    Attributes:
        since: `last_success` reads only files that are new or changed since the last good run,
            leaves those that still grow for the next run, and lets a later file win where two hold
            the same row; default: all files.
        settle_s: Seconds in which the size and time of a new file must not move.
    """

    since: Literal["last_success"] | None = None
    settle_s: float = Field(default=2.0, ge=0, le=3600)


class NotifyConfig(Section):
    """Who is told how a run ended; a webhook's URL comes from LABELCLEAN_WEBHOOK_URL only.

    Attributes:
        max_noise_change: The webhook is called when the share of labels expected to be wrong moved
            by more than this since the last good run.
        prometheus_file: Text file with the run's numbers for node_exporter's textfile collector;
            its name must end with .prom.
    """

    max_noise_change: Share = 0.05
    prometheus_file: ConfigPath | None = None

    @field_validator("prometheus_file")
    @classmethod
    def _read_by_the_collector(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".prom":
            raise ValueError("must end with .prom, or node_exporter passes it over")
        return path


class RunConfig(Section):
    """How a run runs.

    Attributes:
        seed: Feeds every random draw; there is no default.
        device: `auto` takes a CUDA GPU when there is one.
        cluster: Ray cluster that extracts features and works on shards: `auto` (the one on this machine, else one
            started for the run) or HOST:PORT; default: this process.
        dataset: Name of the data set in manifests and locks; default: the labels' file name.
        window: Name of the night or lot that the run stands for, such as 2026-11-24; a window that
            has a good run is not cleaned again without --force. Default: every call runs.
        max_memory: Most memory that the run and its helpers may take, such as 2GiB; refused before anything
            starts where it does not suffice. Default: what is free.
        in_memory_samples: Larger data sets are cleaned out of core, from shards on disk; without neighbours, unless
            `neighbours.method` is `index`.
        reference: Run folder whose sums tonight's samples are added to: tonight's teacher knows all samples,
            at the cost of tonight's.
    """

    seed: int = Field(ge=0, lt=2**32)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    cluster: str | None = Field(default=None, pattern=r"^(auto|[^\s/]+:\d+)$")
    dataset: str | None = None
    window: str | None = Field(default=None, pattern=r"^[0-9A-Za-z][0-9A-Za-z._:+-]{0,63}$")
    max_memory: str | None = Field(default=None, pattern=r"^\d+(\.\d+)? ?([KMGT]i?B)?$")
    in_memory_samples: int = Field(default=500_000, ge=0)
    reference: ConfigPath | None = None

    @field_validator("max_memory", mode="before")
    @classmethod
    def _bytes_are_a_size(cls, size: object) -> object:
        return str(size) if isinstance(size, int) else size

    @field_validator("window", mode="before")
    @classmethod
    def _a_date_is_a_name(cls, window: object) -> object:
        return window.isoformat() if isinstance(window, date) else window


class CleaningConfig(Section):
    """The part of the configuration that the computation sees: no file, no device, no tool."""

    neighbours: NeighboursConfig = NeighboursConfig()
    teacher: TeacherConfig = TeacherConfig()
    refine: RefineConfig = RefineConfig()
    gates: GatesConfig = GatesConfig()


class Config(CleaningConfig):
    """The whole configuration."""

    data: DataConfig
    backbone: BackboneConfig
    run: RunConfig
    storage: StorageConfig
    decode: DecodeConfig = DecodeConfig()
    flags: FlagsConfig = FlagsConfig()
    review: ReviewConfig = ReviewConfig()
    rejects: RejectsConfig = RejectsConfig()
    expectations: ExpectationsConfig = ExpectationsConfig()
    ledger: LedgerConfig = LedgerConfig()
    adapt: AdaptConfig = AdaptConfig()
    ingest: IngestConfig = IngestConfig()
    notify: NotifyConfig = NotifyConfig()


PATH_KEYS = (
    "data.labels",
    "data.image_root",
    "backbone.weights",
    "teacher.pred_probs",
    "storage.runs",
    "storage.cache",
    "adapt.images",
    "adapt.out",
    "notify.prometheus_file",
    "run.reference",
)


def parse_config(
    text: str, *, folder: Path, origin: str, overrides: Sequence[str] = (), cwd: Path | None = None
) -> Config:
    """Return the configuration that a YAML text and `key=value` overrides describe.

    Args:
        text: YAML, read with the safe loader.
        folder: Where relative paths in the text start, normally the config file's folder.
        origin: The file's name for error messages.
        overrides: `section.key=value` items; values are YAML, and relative paths among them
            start at ``cwd``.
        cwd: Folder that paths in overrides start from; default: ``folder``.

    Returns:
        The checked configuration, all paths absolute if ``folder`` and ``cwd`` are.

    Raises:
        ConfigError: If the YAML is broken or any key is unknown, missing or out of range; all
            faults are listed.
    """
    settings: Any = _yaml(text, origin)
    if not isinstance(settings, dict):
        raise ConfigError(f"{origin}: the file must hold a mapping of sections, but holds {type(settings).__name__}.")
    for item in overrides:
        _apply_override(settings, item, cwd or folder)
    # a section with no key set is None in YAML; storage and adapt have paths as defaults and need the folder
    settings = {"storage": {}, "adapt": {}} | {key: {} if value is None else value for key, value in settings.items()}
    try:
        return Config.model_validate(settings, context={"folder": folder})
    except ValidationError as fault:
        raise ConfigError(_faults(fault, origin)) from None


def config_record(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values for a manifest; it holds no secret.

    Args:
        config: The configuration.

    Returns:
        Nested dict of JSON values.
    """
    record: dict[str, Any] = config.model_dump(mode="json")
    return record


def recorded_config(record: Mapping[str, Any]) -> Config:
    """Return the configuration that a run's manifest holds, also one that an older labelclean wrote.

    Args:
        record: From `config_record`; keys that there were once are left out.

    Returns:
        The configuration.
    """
    gone = {tuple(key.split(".")) for key in _RENAMED}
    sections = {
        name: {key: value for key, value in section.items() if (name, key) not in gone}
        if isinstance(section, dict)
        else section
        for name, section in record.items()
    }
    return Config.model_validate(sections)


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases: a few nested ones are gigabytes as soon as they are written out."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read; write the value out")
        return super().compose_node(parent, index)


# PyYAML lets these through where a value contradicts its tag or cannot be, such as the date 2026-13-45
_NO_VALUE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


def _yaml(text: str, origin: str) -> Any:
    try:
        return _PlainLoader(text).get_single_data()
    except (yaml.YAMLError, *_NO_VALUE) as fault:
        problem = " ".join(str(fault).split())[:500]
        raise ConfigError(f"{origin}: the file must be plain YAML, but: {problem}.") from None


def _apply_override(settings: dict[str, Any], item: str, cwd: Path) -> None:
    """Write one `a.b=value` into the nested settings."""
    key, equals, raw = item.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set must look like section.key=value, but is {_BRIEF.repr(item)}.")
    value = _yaml(raw, f"--set {_shown(key)}")
    if key in PATH_KEYS and isinstance(value, str):
        value = str(cwd / value)
    *sections, name = key.strip().split(".")
    place = settings
    for section in sections:
        inner = place.setdefault(section, {})
        if inner is None:
            inner = place[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(
                f"--set {_BRIEF.repr(item)}: {_BRIEF.repr(section)} is not a section of the configuration."
            )
        place = inner
    place[name] = value


_RENAMED = {
    "review.audit_share": "is now review.audit_samples: not a share of the queue, but a number of samples drawn from all "
    "that nobody has settled; write audit_samples: 30, or 0 for no audit",
}
"""What to write in the place of keys that there were once."""

_MOST_FAULTS = 50
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 120


def _shown(part: int | str) -> str:
    """A key as it is, or safe to print where it is long or no plain text."""
    name = str(part)
    return name if name.isprintable() and len(name) < 100 else _BRIEF.repr(name)


def _faults(fault: ValidationError, origin: str) -> str:
    """All faults of a configuration as one message."""
    lines = []
    told = fault.errors(include_url=False)
    for error in told[:_MOST_FAULTS]:
        key = ".".join(_shown(part) for part in error["loc"])
        if error["type"] == "extra_forbidden" and key in _RENAMED:
            lines.append(f"  {key}: this key {_RENAMED[key]}")
        elif error["type"] == "extra_forbidden":
            lines.append(f"  {key}: this key is not known{_nearest(error['loc'])}")
        elif error["type"] == "missing":
            lines.append(f"  {key}: this key is required but missing")
        else:
            problem = error["msg"].removeprefix("Value error, ")
            found = "" if key == "ledger.url" else f", found {_BRIEF.repr(error['input'])}"
            lines.append(f"  {key}: {problem[0].lower()}{problem[1:]}{found}")
    if len(told) > _MOST_FAULTS:
        lines.append(f"  and {len(told) - _MOST_FAULTS:,} more")
    head = f"{origin}: {len(told):,} setting{'s' if len(told) > 1 else ''} cannot be used:\n"
    return head + "\n".join(lines) + "\nCorrect them; `labelclean init` writes a file with every key explained."


def _nearest(location: tuple[int | str, ...]) -> str:
    """The keys that stand where the unknown one was written."""
    model: Any = Config
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    fields: Mapping[str, object] = getattr(model, "model_fields", {})
    return f"; known here: {', '.join(sorted(fields))}" if fields else ""
