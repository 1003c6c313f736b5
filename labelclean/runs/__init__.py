"""How does one run go, from its lock to its published folder? Steps that load, call once and save.

For others:

- `steps`: `clean`, the steps in order, and what wraps them
- `run`: opening, publishing and reading back a run
- `ingest`, `extract`: the first steps; `image_root`, `samples_of`, `validated`
- `part_files`: where the samples of a run lie between its steps
- `tiling`: how many tiles `backbone.tiles: auto` takes
- `gates`: from measurements to verdicts, with a sentence each
- `outputs`: from arrays to the tables and numbers that a run leaves
- `class_rules`: what settings ask for that labels cannot have
- `costs`: escapes, overkill and wrong kinds of a run, and what reviewing saves
- `summary`: what a run found, for machines, the terminal and a flow's artifact
- `record`: what a step leaves for the next

Before the steps: `arrivals` (which label files), `plan` (does it fit). The steps: `ingest` with `label_parts`, `extract`, `judge`,
`refine` with `parts`, `part_tables`, `part_flags` and `kinds`; `expectations` beside them. Of several labels per image:
`label_sets` in the place of `refine`, `label_set_outputs`, `label_set_gates`, and in `label_set_rules` what is refused. With a reference: `night_sums`, `drift`, `drift_report`.
"""
