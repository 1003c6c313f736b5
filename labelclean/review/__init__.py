"""What do people look at, and what did they say? Queue, decisions and ledger, and the way to annotation tools and back.

For others:

- `flags`: each doubtful sample's reasons
- `leaks`: near-copies and pictures of one part that stand in more than one split
- `unusable`: what is no picture of a part: how far each lies outside its set and its class
- `part_views`: parts that several images show, and labels of one part that contradict each other
- `queue`: who is looked at first under a budget, the audit slice, and what the queue should bring
- `part_queue`: the queue of scores in parts
- `decisions`: what reviewers decided, and what that says of each sample now
- `ledger`: who reviewed what and what was applied, in SQL; its tables stand in `ledger_schema` (SQLAlchemy's two homes)
- `chain`: each row's digest holds the row before
- `record`: everything that happened to a sample or a data set, for an auditor
- `overlaps`: boxes that lie on one another
- `boxes.files`: which files boxes came from, and the same files with other classes; one file per format: `boxes.coco`, `boxes.cvat`,
  `boxes.label_studio`, `boxes.voc`, `boxes.yolo`; what all of them find is `boxes.found`
- `exchange.tools`: `export_run` and `import_decisions`, for every annotation tool
- `exchange.foreign_file`: JSON and XML from outside, whole and without tricks (defusedxml's one home)
- `exchange.json_values`: JSON from outside, one step at a time
- `exchange.label_studio_server`: push to and pull from a running Label Studio
- `opinions`: the single labels of single inspectors, from tables and decisions
- `study`: an attribute agreement study: samples, blind sheets, strictly back
- `ratings`: the same from labels and decisions that are there already
- `agreement`: how well appraisers agree, what they let pass, and their confusion matrices
- `agreement_record`: these numbers as JSON values, with limits and what they come to
- `facets`: where wrong labels come from: line, shift, inspector, time
- `shortcuts`: what else tells the label: columns, and properties of the pictures
- `status`: how a run's estimate held, and whether going on is worth it
- `apply`: the labels anew, with predicted and verified labels beside them
- `kinds`: the kinds that a run proposes for images that fit no class, told and named
- `label_files`: labels as Parquet, CSV, Excel, COCO, a folder of images or the files that boxes came from, and cells that are no formulas
- `pictures`: thumbnails of samples, or why there is none

`inspectors` measures how inspectors agree with each other; `kappas` is the one home of statsmodels.
"""
