"""A run whose captioning process needs no torch: ARCHIVE TABLE FUNCTION ARGUMENTS [WORKERS [ENGINE]].

ARGUMENTS are JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.caption import Loader, caption
from pipeline.config import CaptionConfig
from pipeline.errors import CaptionmillError

if __name__ == "__main__":
    archive, table, function, arguments, *more = sys.argv[1:]
    chosen = dict(zip(("workers", "engine"), more, strict=False))
    config = CaptionConfig.model_validate(
        {"unit_size": 5, "batch_size": 3, "workers": 1, **chosen}, strict=False
    )
    loader = Loader(function=f"light_captioner:{function}", arguments=json.loads(arguments))
    try:
        caption(config, [Path(archive)], Path(table), loader)
    except CaptionmillError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
