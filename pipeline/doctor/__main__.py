"""A check's process: `python -m pipeline.doctor MODULE`, inputs on standard input, a finding a line."""

from __future__ import annotations

import importlib
import os
import sys
import warnings

from pipeline.doctor.finding import Finding, Inputs, wrong
from pipeline.errors import CaptionmillError


def main(module: str) -> None:
    """Print what the check of `module` finds, each as soon as it is found."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no finding
    warnings.simplefilter("ignore")
    inputs = Inputs.model_validate_json(sys.stdin.read())

    def tell(finding: Finding) -> None:
        out.write(finding.model_dump_json() + "\n")
        out.flush()

    try:
        for finding in importlib.import_module(module).check(inputs):
            tell(finding)
    except CaptionmillError as error:
        tell(wrong(module.rpartition(".")[2], str(error), ""))
    # At once: a library's threads may hold an exit back.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
