"""The Prefect flows; installed as `labelclean.flows`."""
