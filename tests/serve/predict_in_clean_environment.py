"""`mlflow models predict` in an environment built from a registered model's own requirements.

Not a test: it downloads torch. Run it by hand:

    python tests/serve/predict_in_clean_environment.py WORK NAME/VERSION PICTURE [virtualenv|uv]

`virtualenv` needs `virtualenv` and `pyenv` with Python's sources at hand, `uv` only itself.

Prints what MLflow prints; ends with MLflow's exit code. Nothing of this checkout is on the path: the
program comes from the model's wheel.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.tracking import Tracker
from pipeline.tracking.refs import parse_ref


def main(work: Path, ref: str, picture: Path, manager: str = "virtualenv") -> int:
    name, alias, version = parse_ref(ref)
    root = Tracker(work).resolve(name, alias=alias, version=version).root
    encoded = base64.b64encode(picture.read_bytes()).decode()
    rows = {"columns": ["image"], "data": [[f"data:;base64,{encoded}"]]}
    with tempfile.TemporaryDirectory() as place:
        given = Path(place) / "input.json"
        given.write_text(json.dumps({"dataframe_split": rows}))
        command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", str(root)]
        options = ["-i", str(given), "-t", "json", "--env-manager", manager]
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run([*command, *options], cwd=place, env=clean, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:5]))
