"""How is a run shown to people? One HTML file with plots and pictures from a run folder, and the pages of a trial and of an agreement study.

For others:

- `file`: `write_report`
- `trial_page`: a trial's numbers as sentences and as a page
- `study_page`: an agreement study's numbers as sentences, as a page and as tables
"""
