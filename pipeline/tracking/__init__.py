"""Runs and registered models in MLflow; the only place that knows it, and only when it is used.

Without configuration everything lies in the work directory (`mlflow.db`, `mlflow-artifacts`);
MLFLOW_TRACKING_URI names another place. Knows no stage: fingerprints and tags come from outside.
Where MLflow is not installed runs are not tracked and one line says so; the registry needs it.
"""

from pipeline.tracking.outbox import Outbox
from pipeline.tracking.registry import Tracker
from pipeline.tracking.runs import Run
from pipeline.tracking.store import FINGERPRINT
from pipeline.tracking.version import ModelVersion

__all__ = ["FINGERPRINT", "ModelVersion", "Outbox", "Run", "Tracker"]
