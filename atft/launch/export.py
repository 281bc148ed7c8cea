"""``atft runs export``: a run in the format of another program, by that program's own library."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from atft.errors import UseError
from atft.experiment.export import Exported, exported
from atft.launch import places
from atft.launch.runs import find
from atft.storage import is_remote, local_path


def export_run(run: Path, root: Path, *, target: str, out: Path | None) -> dict[str, Any]:
    """Give a run to MLflow or TensorBoard.

    Args:
        run: directory, URI or name.
        root: where runs of a bare name lie.
        target: ``mlflow`` or ``tensorboard``.
        out: directory; without one, what ``MLFLOW_TRACKING_URI`` says, or ``mlflow.db`` or ``tensorboard`` here.

    Raises:
        UseError: no such run, files that are not there, a library that is missing, or one that refuses.
    """
    found = find(run, root)
    if found.name not in found.all.runs:
        raise UseError(
            f"{run}: is a directory of several runs. Mend: name one of {[each.name for each in found.runs]}."
        )
    listed = found.all.runs[found.name]
    if not listed.present:
        raise UseError(f"run {listed.name}: its files are not there. Mend: `atft runs restore` its archive first.")
    write = _writer(target)
    if out is not None and is_remote(out):
        raise UseError(f"--out {out}: is not on this machine. Mend: a directory here, or MLFLOW_TRACKING_URI.")
    place = places.run_place(found.root, found.name)
    place.fetch()
    told = exported(place.path, listed.name, listed.state, listed.facts)
    where = write(told, out)
    text = f"exported: {listed.name}, {len(told.points):,} points and {len(told.figures)} figures, {where}"
    return {"run": listed.name, "to": target, "where": where, "points": len(told.points), "text": text}


def _writer(target: str) -> Callable[[Exported, Path | None], str]:
    try:
        module: Any = import_module(f"atft.experiment.export_{target}")
    except ModuleNotFoundError as error:
        raise UseError(f"--to {target}: needs its library ({error}). Mend: pip install 'atft[{target}]'.") from None
    return {"mlflow": _to_mlflow, "tensorboard": _to_tensorboard}[target](module)


def _to_tensorboard(module: Any) -> Callable[[Exported, Path | None], str]:
    return lambda run, out: f"in {module.write(run, local_path(out or Path('tensorboard')))}"


def _to_mlflow(module: Any) -> Callable[[Exported, Path | None], str]:
    def write(run: Exported, out: Path | None) -> str:
        uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if out is not None or not uri:
            folder = local_path(out or Path()).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{folder}/mlflow.db", (folder / "mlartifacts").as_uri()
        return f"in {uri} as {module.write(run, uri, artifacts)}"

    return write
