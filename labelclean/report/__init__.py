"""How is a run shown to people? One HTML file from a run folder; and the pages of a trial, a study and a record.

For others:

- `file`: `write_report`
- `trial_page`: a trial's numbers as sentences and as a page
- `record_page`: the record for an auditor, as a page or CSV
- `study_page`: an agreement study's numbers as sentences, as a page and as tables
"""
