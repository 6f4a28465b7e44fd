"""A run whose captioning process needs no torch: ARCHIVE TABLE FUNCTION ARGUMENTS (JSON) [WORKERS]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.caption import Loader, caption
from pipeline.config import CaptionConfig
from pipeline.errors import CaptionmillError

if __name__ == "__main__":
    archive, table, function, arguments, *workers = sys.argv[1:]
    config = CaptionConfig(unit_size=5, batch_size=3, workers=int(workers[0]) if workers else 1)
    loader = Loader(function=f"light_captioner:{function}", arguments=json.loads(arguments))
    try:
        caption(config, [Path(archive)], Path(table), loader)
    except CaptionmillError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
