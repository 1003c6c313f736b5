"""AdaSim: learns a backbone from the factory's own unlabelled images (P2: Lebailly et al., ICCV 2023).

In this package say momentum and online, never teacher and student: those are the two probes of label cleaning.
"""
