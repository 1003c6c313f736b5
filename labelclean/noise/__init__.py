"""How do labels go wrong, and which of them did? Everything here takes probabilities and labels, never an image or a file.

For others:

- `model`: the noise matrix C by expectation-maximisation, and the posterior of the true class
- `model_choice`: how free C may be, by the evidence of the given labels
- `targets`: the student's targets from the teacher's probabilities and the given labels
- `top2`: the teacher's pair, its margin and how stable it is
- `scores`: from label scores to issues, and how many labels are probably wrong
- `tally`: what is counted over refined labels and adds up over parts
- `distribution`: labels per class, and how far their shares moved
- `costs`: escapes, overkill and wrong kinds of defect where one class is OK, and what they cost
- `promise`: what a run promises to those who take its predicted labels over without a look, and what looking at more would tell
- `readings`: how far to trust the image against the label: four readings of a disagreement, and how far each is believed
- `trust`: from readings to labels: soft labels, label scores, which labels are worth a look, and what waits for eyes
"""
