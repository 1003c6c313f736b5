"""What do the features say of a class, out of fold? From rows of features to scores that a sample's own label did not enter.

For others:

- `sums`: X'X and X'Y per fold, which add across shards, machines and nights
- `ridge`: the linear probe, in closed form from the sums or by cross-entropy; `softmax`, `log_shares`
- `feature_space`: features with their folds, neighbours and near-duplicates, before any label is looked at
- `neighbours`: nearest neighbours, their votes, near-duplicates and twins with conflicting labels
- `index`: neighbours by index (faiss's one home)
- `held_out`: ridge probes that each leave out one group
- `kernel`: curved features, similarity to landmark samples
- `threads`: small products on one thread (threadpoolctl's one home)
"""
