"""A captioning process on this machine: a worker's connection."""

from __future__ import annotations

from pipeline.caption import wire
from pipeline.caption.child import Child
from pipeline.caption.loader import Loader
from pipeline.config import CaptionConfig


class Process(Child):
    """`python -m pipeline.caption.worker`. It ends when this process does, however that ends."""

    def __init__(self, config: CaptionConfig, loader: Loader, number: int = 0) -> None:
        super().__init__("pipeline.caption.worker")
        self.send("start", wire.start_to_json(config, loader, number))
