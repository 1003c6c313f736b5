"""How is a run shown to people? One HTML file with plots and pictures from a run folder, and a trial's page.

For others:

- `file`: `write_report`
- `trial_page`: a trial's numbers as sentences and as a page
"""
