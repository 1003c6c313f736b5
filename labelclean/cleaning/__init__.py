"""Which labels are wrong, and what should they be? The method: teacher, student and verdicts, the same at every size.

For others:

- `clean`: `clean_labels`, of arrays
- `several`: `clean_label_sets`, of arrays: a question of yes or no for every class
- `streaming`: `clean_shards`, of feature shards on disk
- `population`: teacher and student of the samples of some shards: chosen on some of them, taught by sums over all
- `teacher`, `student`: both, fitted to the samples on which choices are made
- `experts`: evidence about the class of a sample that its own label did not enter
- `stage`: what was fitted, in a form that scores any block of samples
- `passes`: blocks over shards; a killed pass goes on where it stopped
- `verdicts`: what was found about every sample; the tables of every shard
- `kinds`: images that fit no class, put into kinds by their nearest neighbours
- `one_class`: images of one class, ranked by how little they look like the others
- `parts`: labels of parts that several images show, judged by their worst view
- `neighbour_pass`: nearest neighbours and near-duplicates among many samples
- `sample`: the samples on which choices are made
- `shards`, `shard_labels`: features in shards, and the labels beside them
- `alignment`: rows and columns of a user's tables brought into one order, by their names
- `power`: features as they are or as their roots
- `memory`: how many bytes a run needs
- `chance`: where evidence ends: gains that random labels reach too, and samples for which nothing outside their group can vouch
"""
