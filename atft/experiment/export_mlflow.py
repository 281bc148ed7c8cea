"""A run as MLflow keeps it, written by MLflow's own client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from atft.errors import UseError
from atft.experiment.export import Exported

EXPERIMENT = "atft"
METRICS, PARAMS = 1000, 100
"""Most that MLflow takes at once."""
LONGEST = 6000
"""Characters of a parameter's value."""
STATUS = {"done": "FINISHED", "archived": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING"}

T = TypeVar("T")


def write(run: Exported, tracking_uri: str, artifacts: str | None) -> str:
    """Give a run to the MLflow at ``tracking_uri``, in its experiment ``atft``; returns the id that it has there.

    Args:
        run: what is given.
        tracking_uri: of a server or a database, as ``sqlite:///mlflow.db``.
        artifacts: URI of a directory for files where the experiment is new; MLflow's choice where None.

    Raises:
        UseError: MLflow refuses, does not answer, or has the run already.
    """
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        experiment = _experiment(client, artifacts)
        _check_new(client, experiment, run)
        return _write(client, experiment, run)
    except MlflowException as error:
        line = next(iter(str(error).splitlines()), "")
        raise UseError(f"MLflow at {tracking_uri}: {line} Mend: --out DIRECTORY, or MLFLOW_TRACKING_URI.") from None


def _experiment(client: MlflowClient, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=artifacts))


def _check_new(client: MlflowClient, experiment: str, run: Exported) -> None:
    same = f"tags.`atft.run` = '{run.name}' and tags.`atft.panel_sha256` = '{run.tags['atft.panel_sha256']}'"
    for each in client.search_runs([experiment], filter_string=f"{same} and attributes.status != 'RUNNING'"):
        if each.data.tags.get("atft.command") == run.tags.get("atft.command"):
            raise UseError(
                f"run {run.name}: MLflow has it already, as {each.info.run_id}. "
                "Mend: delete it there, or another --out."
            )


def _write(client: MlflowClient, experiment: str, run: Exported) -> str:
    times = [int(1000 * point.time) for point in run.points] or [0]
    made = client.create_run(experiment, start_time=times[0], run_name=run.name)
    identity = str(made.info.run_id)
    last = max((point.step for point in run.points), default=0)
    metrics = [Metric(point.name, point.value, time, point.step) for point, time in zip(run.points, times)]
    metrics += [Metric(name, value, times[-1], last) for name, value in run.figures.items()]
    for some in _in_parts(metrics, METRICS):
        client.log_batch(identity, metrics=some)
    for some_params in _in_parts([Param(name, value[:LONGEST]) for name, value in run.settings.items()], PARAMS):
        client.log_batch(identity, params=some_params)
    client.log_batch(identity, tags=[RunTag(name, value[:LONGEST]) for name, value in run.tags.items()])
    for file in run.files:
        client.log_artifact(identity, str(file))
    client.set_terminated(identity, STATUS.get(run.tags["atft.state"], "FINISHED"), end_time=times[-1])
    return identity


def _in_parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    left: Any = iter(items)
    while part := list(islice(left, size)):
        yield part
