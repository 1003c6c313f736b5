"""What have people got? Labels as tools, tables and folders hold them become the labels table that everything else reads.

For others:

- `source`: `first_labels`, which reader a path needs, and what comes of it
- `parquet_file`: Parquet of any make; `write_with_images`

One file per format, each a function from a file to `rows.Rows`: the rows, and what was left out. `folders` (one folder
per class, known layouts), `csv_file` and `excel` (both by `cells`), `coco`, `cvat`, `fiftyone`,
`huggingface`, `label_studio`, `voc`; where samples are boxes, `boxes` makes rows of what `review.boxes` finds. `text` knows code pages, `images` finds the image files that paths mean, `unread`
names what is not read and what to do.
"""
