"""The ledger's tables, and how they came to be: one migration per schema."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
VERSIONS = sa.Table(
    "labelclean_schema",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
)
DECISIONS = sa.Table(
    "decisions",
    METADATA,
    sa.Column("place", sa.BigInteger, nullable=False),
    sa.Column("decision_key", sa.String(64), primary_key=True),
    sa.Column("sample_id", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("given_label", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("verified_label", sa.Text),
    sa.Column("candidate_labels", sa.Text),
    sa.Column("ruled_out_labels", sa.Text),
    sa.Column("annotator_id", sa.Text, nullable=False),
    sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("tool", sa.Text, nullable=False),
    sa.Column("file_digest", sa.Text, nullable=False),
    sa.Column("inclusion_probability", sa.Double),
    sa.Column("verified_labels", sa.Text),
    sa.Column("digest", sa.String(64), nullable=False),
)
APPLICATIONS = sa.Table(
    "applications",
    METADATA,
    sa.Column("place", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("applied_by", sa.Text, nullable=False),
    sa.Column("tool", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("file_digest", sa.Text, nullable=False),
    sa.Column("num_rows", sa.BigInteger, nullable=False),
    sa.Column("unreviewed", sa.Boolean, nullable=False),
    sa.Column("num_decisions", sa.BigInteger, nullable=False),
    sa.Column("decisions_digest", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)

# A migration is never changed once released; the next schema is the next entry.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE decisions (
            decision_key VARCHAR(64) NOT NULL PRIMARY KEY,
            sample_id TEXT NOT NULL,
            content_hash TEXT NOT NULL,
            given_label TEXT NOT NULL,
            decision TEXT NOT NULL CHECK (decision IN
                ('confirmed', 'corrected', 'one_of', 'not_class', 'unsure', 'bad_image', 'skipped')),
            verified_label TEXT,
            candidate_labels TEXT,
            ruled_out_labels TEXT,
            annotator_id TEXT NOT NULL,
            reviewed_at TIMESTAMPTZ NOT NULL,
            run_id TEXT NOT NULL,
            dataset TEXT NOT NULL,
            tool TEXT NOT NULL,
            file_digest TEXT NOT NULL
        )""",
    ),
    ("CREATE INDEX decisions_by_dataset_and_sample ON decisions (dataset, sample_id)",),
    (
        """ALTER TABLE decisions ADD COLUMN inclusion_probability DOUBLE PRECISION
            CHECK (inclusion_probability > 0 AND inclusion_probability <= 1)""",
    ),
    (  # rows in a chain, with room for sets of labels and for "none of these"; a CHECK cannot be changed in SQLite
        """CREATE TABLE decisions_chained (
            place BIGINT NOT NULL,
            decision_key VARCHAR(64) NOT NULL PRIMARY KEY,
            sample_id TEXT NOT NULL,
            content_hash TEXT NOT NULL,
            given_label TEXT NOT NULL,
            decision TEXT NOT NULL CHECK (decision IN ('confirmed', 'corrected', 'one_of', 'not_class', 'none_of_these',
                'unsure', 'bad_image', 'skipped')),
            verified_label TEXT,
            candidate_labels TEXT,
            ruled_out_labels TEXT,
            annotator_id TEXT NOT NULL,
            reviewed_at TIMESTAMPTZ NOT NULL,
            run_id TEXT NOT NULL,
            dataset TEXT NOT NULL,
            tool TEXT NOT NULL,
            file_digest TEXT NOT NULL,
            inclusion_probability DOUBLE PRECISION
                CHECK (inclusion_probability > 0 AND inclusion_probability <= 1),
            verified_labels TEXT,
            digest VARCHAR(64) NOT NULL
        )""",
        """INSERT INTO decisions_chained
            SELECT ROW_NUMBER() OVER (ORDER BY reviewed_at, decision_key), decision_key, sample_id, content_hash,
                given_label, decision, verified_label, candidate_labels, ruled_out_labels, annotator_id, reviewed_at,
                run_id, dataset, tool, file_digest, inclusion_probability, NULL, ''
            FROM decisions""",
        "DROP TABLE decisions",
        "ALTER TABLE decisions_chained RENAME TO decisions",
        "CREATE INDEX decisions_by_dataset_and_sample ON decisions (dataset, sample_id)",
        "CREATE UNIQUE INDEX decisions_by_place ON decisions (place)",
        """CREATE TABLE applications (
            place BIGINT NOT NULL PRIMARY KEY,
            run_id TEXT NOT NULL,
            dataset TEXT NOT NULL,
            applied_at TIMESTAMPTZ NOT NULL,
            applied_by TEXT NOT NULL,
            tool TEXT NOT NULL,
            path TEXT NOT NULL,
            file_digest TEXT NOT NULL,
            num_rows BIGINT NOT NULL,
            unreviewed BOOLEAN NOT NULL,
            num_decisions BIGINT NOT NULL,
            decisions_digest TEXT NOT NULL,
            digest VARCHAR(64) NOT NULL
        )""",
    ),
)
CHAINED = 4
"""The first schema whose rows are chained."""
