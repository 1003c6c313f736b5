"""Can a backbone of one's own see more? AdaSim learns it from unlabelled images (P2: Lebailly et al. 2023 [8]).

In this room say momentum and online, never teacher and student: those are the two probes of label cleaning.

For others:

- `command`: what `labelclean adapt` does
- `session`: `adapt`, one adaptation from configuration to weights file
"""
