"""Which labels are wrong, and what should they be? The method: teacher, student and verdicts, in memory and over shards.

For others:

- `clean`: `clean_labels`, and its steps `fit_teacher` and `refine_labels`
- `alignment`: rows and columns of a user's tables brought into one order, by their names
- `streaming`: `clean_shards`, the same out of core
- `learning`: teacher and student from shards, by sums over all samples and choices on a hashed sample
- `passes`: blocks over shards; a killed pass goes on where it stopped
- `verdicts`: the last pass, what is written per shard
- `sample`: the hashed sample on which choices are made
- `shards`: features in shards on disk
- `shard_labels`: the labels of one shard beside its features
- `views`: evidence about the class of a sample that its own label did not enter
- `power`: features as they are or as their roots
- `memory`: how many bytes a run needs, and whether they are there
- `chance`: where evidence ends: gains that random labels reach too, and samples for which nothing outside their group can vouch
"""
