"""What lies on disk, and is it whole? Tables and run folders: read whole or refused, written whole or not at all.

For others:

- `tables`: the dictionary of the house, every table's columns and key, and `conform`, the one door for tables
- `parquet`: reads and writes the config, tables and JSON files; `atomic_path`
- `queries`: questions to tables that are larger than memory (DuckDB's one home)
- `samples`: from one row per label or inspector to one row per sample with votes
- `label_sets`: several labels on one image, from lists or rows to one row per sample with their set
- `run_folders`: where a run works and how it is published, `run_folders`, `good_runs`
- `lock`: `run_lock`, one run at a time per runs folder
- `spellings`: class names that look alike, and `data.spellings`, which joins them
- `expectations`: Great Expectations' one home
"""
