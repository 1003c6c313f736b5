"""Questions to tables that are larger than memory: the one home of DuckDB, which spills to disk what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from labelclean.arrays import IntArray
from labelclean.errors import TableError, listed
from labelclean.storage.parquet import atomic_path, make_folder

QUERY_BYTES = 256 * 2**20


@contextmanager
def database(spill: Path, memory: int = QUERY_BYTES) -> Iterator[Any]:
    """Give a DuckDB connection that keeps to some memory and spills to a folder.

    Args:
        spill: Folder for what does not fit; made if needed.
        memory: Bytes.

    Yields:
        The connection.
    """
    import duckdb

    make_folder(spill)
    connection = duckdb.connect(":memory:")
    try:
        connection.execute(f"SET memory_limit = '{memory}B'")
        connection.execute("SET temp_directory = ?", [str(spill)])
        connection.execute("SET threads = 2")
        connection.execute("SET enable_progress_bar = false")
        yield connection
    finally:
        connection.close()


def names_of(files: Sequence[Path]) -> list[str]:
    """Return file names as DuckDB's `read_parquet` takes them."""
    return [str(file) for file in files]


def check_distinct_ids(files: Sequence[Path], spill: Path) -> None:
    """Refuse Parquet files that hold a `sample_id` twice, over all of them.

    Args:
        files: Parquet files with a column `sample_id`.
        spill: Folder for what does not fit into memory.

    Raises:
        TableError: If an id stands twice; up to 5 are named with a file.
    """
    repeated = """
        CREATE TEMP TABLE repeated AS SELECT sample_id, count(*) AS num, max(parse_filename(filename)) AS file
        FROM read_parquet(?, filename = true) GROUP BY sample_id HAVING count(*) > 1
    """
    with database(spill) as connection:
        connection.execute(repeated, [names_of(files)])
        ((twice, rows),) = connection.execute("SELECT count(*), sum(num) FROM repeated").fetchall()
        if twice:
            shown = connection.execute("SELECT sample_id, file FROM repeated ORDER BY sample_id LIMIT 5").fetchall()
            raise TableError(
                f"sample_ids must be distinct over all shards, but {twice:,} stand in {rows:,} rows: "
                f"{listed([f'{sample} in {file}' for sample, file in shown])}. Take the repeated rows out."
            )


def rows_of(connection: Any, question: str, values: Sequence[Any], num_rows: int) -> Iterator[pa.Table]:
    """Yield the answer to a question a batch at a time.

    Args:
        connection: From `database`.
        question: SQL with a ? for each value.
        values: The values.
        num_rows: Most rows of a batch.

    Yields:
        Tables with rows.
    """
    reader = connection.sql(question, params=list(values)).to_arrow_reader(num_rows)
    for batch in reader:
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


def ordered_labels(
    connection: Any, files: Sequence[Path], columns: Sequence[str], key: Sequence[str], *, latest: bool, num_rows: int
) -> Iterator[pa.Table]:
    """Yield labels sorted by their key, whatever files they lie in.

    Args:
        connection: From `database`.
        files: Parquet files; where two hold the same key and ``latest`` is set, the later in this order wins.
        columns: Columns wanted; those of hive partitions are strings.
        key: Columns of the key.
        latest: Whether later files replace rows.
        num_rows: Most rows of a batch.

    Yields:
        Tables with rows, sorted by key.
    """
    # rank, not row_number: a key that one file holds twice keeps both rows, a fault for `conform` to tell
    stands = f"QUALIFY rank() OVER (PARTITION BY {_listed(key)} ORDER BY file_order DESC) = 1" if latest else ""
    question = f"""
        WITH read AS (
            SELECT *, list_position(?, filename) AS file_order FROM read_parquet(?, filename = true,
                hive_partitioning = true, hive_types_autocast = false, union_by_name = true)
        ), standing AS (SELECT * FROM read {stands})
        SELECT {_listed(columns)} FROM standing ORDER BY {_listed(key)}
    """  # noqa: S608 - only column names are put in, quoted
    yield from rows_of(connection, question, [names_of(files), names_of(files)], num_rows)


def _listed(columns: Sequence[str]) -> str:
    """Quoted column names."""
    return ", ".join('"' + name.replace('"', '""') + '"' for name in columns)


def register_spellings(connection: Any, spellings: Mapping[str, str]) -> None:
    """Leave the table `spellings` (spelling, spelled) in the database.

    Args:
        connection: From `database`.
        spellings: `data.spellings`.
    """
    columns = {
        "spelling": pa.array(list(spellings), pa.string()),
        "spelled": pa.array(list(spellings.values()), pa.string()),
    }
    connection.register("spellings", pa.table(columns))


def count_repeats(
    now: Sequence[Path], earlier: Sequence[Path], spill: Path, spellings: Mapping[str, str] | None = None
) -> tuple[int, int]:
    """Return how many samples other files hold too, and how many of them with another label.

    Args:
        now: Parts of the samples, with `sample_id` and `given_label`.
        earlier: Other label files, in the order in which a later one wins.
        spill: Folder for what does not fit into memory.
        spellings: `data.spellings`, for the other files.

    Returns:
        Both numbers; of several inspectors' labels before, none of the most frequent ones is another.
    """
    if not earlier:
        return 0, 0
    question = """
        WITH rows AS (
            SELECT sample_id, coalesce(spelled, given_label) AS label, list_position(?, filename) AS file
            FROM read_parquet(?, filename = true, union_by_name = true) LEFT JOIN spellings ON given_label = spelling
        ), last AS (SELECT sample_id, max(file) AS file FROM rows GROUP BY sample_id),
        votes AS (
            SELECT sample_id, label, count(*) AS num FROM rows JOIN last USING (sample_id, file) GROUP BY sample_id, label
        ), before AS (SELECT sample_id, max(num) AS most FROM votes GROUP BY sample_id)
        SELECT count(*), count(*) FILTER (WHERE coalesce(num, 0) < most)
        FROM (SELECT sample_id, given_label AS label FROM read_parquet(?)) JOIN before USING (sample_id)
        LEFT JOIN votes USING (sample_id, label)
    """
    with database(spill) as connection:
        register_spellings(connection, spellings or {})
        (repeats,) = connection.execute(question, [names_of(earlier), names_of(earlier), names_of(now)]).fetchall()
    return int(repeats[0]), int(repeats[1])


def inspector_sums(
    refined: Path,
    labels: Sequence[Path],
    class_names: Sequence[str],
    spill: Path,
    spellings: Mapping[str, str] | None = None,
) -> list[tuple[str | None, int, float]]:
    """Return how many single labels each inspector gave, and how many of them are expected to be wrong.

    A label is wrong with the chance that the given label of its sample is; one that lost the vote
    is right only where it is the suggested one.

    Args:
        refined: Table `refined_labels`.
        labels: Label files with `sample_id`, `annotator_id` and `given_label`; samples that were not judged are left out.
        class_names: Labels that name none of these are left out.
        spill: Folder for what does not fit into memory.
        spellings: `data.spellings`.

    Returns:
        Inspector, labels, expected number of wrong ones; by name.

    Raises:
        TableError: If the label files cannot be read.
    """
    import duckdb

    # whole billionths: their sum is the same in whatever order the threads add
    question = """
        WITH single AS (
            SELECT sample_id::VARCHAR AS sample_id, annotator_id::VARCHAR AS inspector,
                coalesce(spelled, given_label::VARCHAR) AS label
            FROM read_parquet(?, hive_partitioning = true, hive_types_autocast = false, union_by_name = true)
            LEFT JOIN spellings ON given_label::VARCHAR = spelling
        ), judged AS (
            SELECT sample_id, given_label, predicted_label, label_score::DOUBLE AS score FROM read_parquet(?)
        )
        SELECT inspector, count(*), sum(round(1e9 * CASE
            WHEN label = given_label THEN 1 - score WHEN label = predicted_label THEN score ELSE 1 END)::BIGINT)
        FROM single JOIN judged USING (sample_id) WHERE list_contains(?, label) GROUP BY inspector ORDER BY inspector
    """
    try:
        with database(spill) as connection:
            register_spellings(connection, spellings or {})
            values = [names_of(labels), str(refined), list(class_names)]
            rows = connection.execute(question, values).fetchall()
    except duckdb.Error as fault:
        raise TableError(
            f"the labels of the inspectors cannot be read: {' '.join(str(fault).split())[:300]}."
        ) from None
    return [(inspector, int(num), int(billionths) / 1e9) for inspector, num, billionths in rows]


_FIRST_OF_SAMPLE = """
    SELECT * EXCLUDE (filename, file_row_number) FROM read_parquet(?, filename = true, file_row_number = true)
    QUALIFY row_number() OVER (PARTITION BY sample_id ORDER BY filename, file_row_number) = 1
"""


def images_to_extract(
    connection: Any, hashes: Sequence[Path], stored: Sequence[Path], target: Path, boxed: Sequence[str] = ()
) -> tuple[int, int]:
    """Write down one image of each content that is not stored, in the order of the sample ids; boxes image by image.

    Args:
        connection: From `database`.
        hashes: Parts with `sample_id`, `image_path` and `content_hash`, null where an image was refused; of a sample
            that comes twice the first row counts.
        stored: Parts of the feature store, with `content_hash`.
        target: Parquet file to write: `content_hash`, `sample_id`, `image_path`, and ``boxed``.
        boxed: Columns of the boxes, where samples are boxes.

    Returns:
        Contents to extract, and contents that are stored.
    """
    known = "SELECT DISTINCT content_hash FROM read_parquet(?)" if stored else "SELECT NULL::VARCHAR AS content_hash"
    question = f"""
        CREATE TEMP TABLE contents AS
        WITH stored AS ({known}), seen AS (
            SELECT content_hash, min(sample_id) AS sample_id, arg_min(image_path, sample_id) AS image_path
            {"".join(f", arg_min({name}, sample_id) AS {name}" for name in boxed)}
            FROM ({_FIRST_OF_SAMPLE}) WHERE content_hash IS NOT NULL GROUP BY content_hash
        )
        SELECT seen.*, stored.content_hash IS NOT NULL AS is_stored FROM seen LEFT JOIN stored USING (content_hash)
    """  # noqa: S608 - nothing of the data is put in
    connection.execute(question, [*([names_of(stored)] if stored else []), names_of(hashes)])
    with atomic_path(target) as temporary:
        connection.execute(
            f"COPY (SELECT {', '.join(('content_hash', 'sample_id', 'image_path', *boxed))} FROM contents "  # noqa: S608
            f"WHERE NOT is_stored ORDER BY {'image_path, ' if boxed else ''}sample_id) "
            "TO $target (FORMAT parquet)",
            {"target": str(temporary)},
        )
    counts = connection.execute("SELECT count(*) FILTER (NOT is_stored), count(*) FILTER (is_stored) FROM contents")
    ((wanted, num_found),) = counts.fetchall()
    return int(wanted), int(num_found)


def images_to_measure(connection: Any, stored: Sequence[Path], target: Path, boxed: Sequence[str] = ()) -> int:
    """Write down one image of each content that `images_to_extract` found stored and that another store lacks.

    Args:
        connection: The one that `images_to_extract` asked.
        stored: Parts of the other store, with `content_hash`.
        target: Parquet file to write: `content_hash`, `sample_id`, `image_path`, and ``boxed``.
        boxed: Columns of the boxes, where samples are boxes.

    Returns:
        Their number.
    """
    known = "SELECT content_hash FROM read_parquet($stored)" if stored else "SELECT NULL::VARCHAR AS content_hash"
    question = f"""
        COPY (
            SELECT {", ".join(("content_hash", "sample_id", "image_path", *boxed))}
            FROM contents ANTI JOIN ({known}) USING (content_hash)
            WHERE is_stored ORDER BY {"image_path, " if boxed else ""}sample_id
        ) TO $target (FORMAT parquet)
    """  # noqa: S608 - nothing of the data is put in
    with atomic_path(target) as temporary:
        values: dict[str, Any] = {"target": str(temporary)} | ({"stored": names_of(stored)} if stored else {})
        ((num_found,),) = connection.execute(question, values).fetchall()
    return int(num_found)


def rejected_images(connection: Any, hashes: Sequence[Path], wanted: Path, refused: Mapping[str, Any]) -> None:
    """Leave the tables `usable` (sample_id, content_hash) and `rejected` in the database.

    Args:
        connection: From `database`.
        hashes: Parts with what was found of each image; of a sample that comes twice the first row counts.
        wanted: What `images_to_extract` wrote.
        refused: Reject of each sample there that could not be decoded.
    """
    rows = [(sample, reject.reason_code, reject.message) for sample, reject in refused.items()]
    names = ("sample_id", "reason_code", "message")
    table = pa.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows], schema=pa.schema([(name, pa.string()) for name in names])
    )
    connection.register("refused_samples", table)
    connection.execute(
        """
        CREATE TEMP TABLE refused AS
        SELECT content_hash, any_value(reason_code) AS reason_code, any_value(message) AS message
        FROM refused_samples JOIN read_parquet(?) USING (sample_id) GROUP BY content_hash
        """,
        [str(wanted)],
    )
    connection.execute(f"CREATE TEMP TABLE hashed AS {_FIRST_OF_SAMPLE}", [names_of(hashes)])
    connection.execute(
        """
        CREATE TEMP TABLE usable AS
        SELECT sample_id, content_hash FROM hashed ANTI JOIN refused USING (content_hash)
        WHERE content_hash IS NOT NULL ORDER BY sample_id
        """
    )
    connection.execute(
        """
        CREATE TEMP TABLE rejected AS
        SELECT sample_id, image_path, reason_code, message FROM hashed WHERE content_hash IS NULL
        UNION ALL
        SELECT sample_id, image_path, refused.reason_code, refused.message
        FROM hashed JOIN refused USING (content_hash)
        """
    )


def usable_hashes(connection: Any, first: str, last: str) -> pa.Table:
    """Return the usable samples of a range of ids with their content hashes.

    Args:
        connection: With the table `usable`.
        first: Least id.
        last: Greatest id.

    Returns:
        `sample_id` and `content_hash`, sorted.
    """
    question = "SELECT * FROM usable WHERE sample_id BETWEEN ? AND ? ORDER BY sample_id"
    return connection.sql(question, params=[first, last]).to_arrow_table()


def stored_places(
    connection: Any, samples: Sequence[Path], stored: Sequence[Path]
) -> Iterator[tuple[str, IntArray, IntArray, IntArray]]:
    """Yield for each part of the feature store which samples its rows belong to.

    Args:
        connection: From `database`.
        samples: Parts of the samples, with `content_hash`.
        stored: Parts of the feature store.

    Yields:
        Part of the store, its rows, number of the samples' part, and row there; aligned, int64.
    """
    question = """
        WITH stored AS (
            SELECT content_hash, min(filename) AS file, arg_min(file_row_number, filename) AS stored_row
            FROM read_parquet(?, filename = true, file_row_number = true) GROUP BY content_hash
        ), wanted AS (
            SELECT content_hash, list_position(?, filename) - 1 AS part, file_row_number AS place
            FROM read_parquet(?, filename = true, file_row_number = true)
        )
        SELECT file, stored_row, part, place FROM wanted JOIN stored USING (content_hash)
        ORDER BY file, part, place
    """
    values = [names_of(stored), names_of(samples), names_of(samples)]
    name, tables = "", list[pa.Table]()
    for table in rows_of(connection, question, values, 100_000):
        files = table.column("file").combine_chunks().dictionary_encode()
        for code, file in enumerate(files.dictionary.to_pylist()):
            rows = table.filter(pa.compute.equal(files.indices, code))
            if file != name and tables:
                yield name, *_numbers(tables)
                tables = []
            name = file
            tables.append(rows)
    if tables:
        yield name, *_numbers(tables)


def _numbers(tables: Sequence[pa.Table]) -> tuple[IntArray, IntArray, IntArray]:
    """Columns stored_row, part and place."""
    joined = pa.concat_tables(tables)
    stored, part, place = (
        np.asarray(joined.column(name).to_numpy(), dtype=np.int64) for name in ("stored_row", "part", "place")
    )
    return stored, part, place


def samples_known(reference: Path, runs: Sequence[str], samples: Sequence[Path], spill: Path) -> set[str]:
    """Return the samples of tonight that the runs behind a reference hold already.

    Args:
        reference: The reference run's folder; the other runs lie beside it.
        runs: Ids of the runs whose samples are in its sums.
        samples: Parts of tonight's samples.
        spill: Folder for what does not fit into memory.

    Returns:
        Their ids; those of runs that were pruned are not known any more.
    """
    files = _refined_labels(reference, runs)
    if not files:
        return set()
    question = """
        SELECT DISTINCT sample_id FROM (SELECT sample_id FROM read_parquet(?))
        SEMI JOIN (SELECT sample_id FROM read_parquet(?)) USING (sample_id)
    """
    with database(spill) as connection:
        return {row[0] for row in connection.execute(question, [names_of(samples), names_of(files)]).fetchall()}


def samples_judged(
    reference: Path, runs: Sequence[str], sample_ids: Sequence[str], spill: Path
) -> dict[str, tuple[str, str]]:
    """Return what image and given label some samples had when a run behind a reference judged them last.

    Args:
        reference: The reference run's folder; the other runs lie beside it.
        runs: Ids of the runs whose samples are in its sums; names of runs sort by time.
        sample_ids: The samples.
        spill: Folder for what does not fit into memory.

    Returns:
        Content hash and given label by sample id; samples of runs that were pruned are not known any more.
    """
    files = _refined_labels(reference, runs)
    if not files or not sample_ids:
        return {}
    question = """
        SELECT sample_id, arg_max(content_hash, filename), arg_max(given_label, filename)
        FROM read_parquet(?, filename = true) SEMI JOIN (SELECT unnest(?) AS sample_id) USING (sample_id)
        GROUP BY sample_id
    """
    with database(spill) as connection:
        rows = connection.execute(question, [names_of(files), list(sample_ids)]).fetchall()
    return {sample: (content_hash, given) for sample, content_hash, given in rows}


def _refined_labels(reference: Path, runs: Sequence[str]) -> list[Path]:
    """The refined labels of the runs behind a reference that are still there, oldest first."""
    folders = {reference, *(reference.parent / run for run in runs)}
    files = sorted(folder / "refined_labels.parquet" for folder in folders)
    return [file for file in files if file.is_file()]
