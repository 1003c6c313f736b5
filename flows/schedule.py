"""Serves the nightly flow: a deployment with a cron schedule, executed by this process until it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from labelclean.flows.clean_labels import clean_labels
from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.schedules import Cron
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from labelclean.errors import ConfigError, StorageError
from labelclean.runs.run import dataset_name
from labelclean.storage.parquet import read_config

# one night at a time: a night that comes due while another runs is cancelled, its files wait for the next
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def serve_nightly(
    config_path: Path, overrides: Sequence[str], *, cron: str, timezone: str, window: str | None, name: str | None
) -> None:
    """Serve the deployment; returns when the process is told to stop.

    Args:
        config_path: The config file.
        overrides: `section.key=value` items for every run.
        cron: When, in cron's five fields.
        timezone: Where that time is told, an IANA name.
        window: What part of the scheduled time names a run's window: day, hour, minute, or None.
        name: Name of the deployment; default: the data set's name.

    Raises:
        ConfigError: If the config, the cron line or the time zone cannot be used.
        StorageError: If no Prefect server answers.
    """
    config = read_config(config_path, overrides)
    parameters: dict[str, Any] = {
        "config_path": str(config_path.resolve()),
        "overrides": list(overrides),
        "window": window,
        "timezone": timezone,
    }
    try:
        schedule = Cron(cron, timezone=timezone)
        deployment = clean_labels.to_deployment(
            name=name or dataset_name(config),
            schedule=schedule,
            parameters=parameters,
            concurrency_limit=ONE_AT_A_TIME,
            entrypoint_type=EntrypointType.MODULE_PATH,
            description="Made by `labelclean serve`.",
        )
    except (ValidationError, ValueError):
        raise ConfigError(
            f"labelclean serve: --cron must be a cron line of five fields and --timezone an IANA name such as "
            f"Asia/Tokyo, but are {cron!r} and {timezone!r}."
        ) from None
    check_server()
    # not paused when this process stops: a restarted machine must not have to be told to go on
    serve(deployment, pause_on_shutdown=False, print_starting_message=False)


def server_url() -> str | None:
    """Return the API URL of the Prefect server that the environment or Prefect's profile names, or None."""
    return get_current_settings().api.url


def check_server(timeout_s: float = 10.0) -> None:
    """Refuse if no Prefect server is named or it does not answer.

    Args:
        timeout_s: Longest wait in seconds.

    Raises:
        StorageError: If there is none.
    """
    url = server_url()
    remedy = (
        "Start one with `prefect server start` and set PREFECT_API_URL, for example to http://127.0.0.1:4200/api; "
        "docs/operations.md has the systemd unit."
    )
    if url is None:
        raise StorageError(
            f"a schedule needs a Prefect server that goes on running, but PREFECT_API_URL is not set. {remedy}"
        )
    try:
        with urlopen(f"{url.rstrip('/')}/health", timeout=timeout_s):  # noqa: S310 - the user's own setting
            pass
    except HTTPError as fault:
        fault.close()
        if fault.code not in (401, 403):  # it answers; its own login is for Prefect to settle
            raise StorageError(
                f"PREFECT_API_URL: the Prefect server answers with status {fault.code}. {remedy}"
            ) from None
    except (OSError, ValueError) as fault:
        raise StorageError(
            f"PREFECT_API_URL: no Prefect server answers there ({type(fault).__name__}). {remedy}"
        ) from None
