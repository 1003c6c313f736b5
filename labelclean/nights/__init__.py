"""What goes on around a run that nobody watches? Every night ends in one of few ways, and each is told.

For others:

- `night`: `run_night`, a run and everything around it
- `notify`: a webhook and a text file for Prometheus
- `prune`: removes old runs and what dead ones left
- `doctor`: looks at all that a night depends on and says what to do
"""
