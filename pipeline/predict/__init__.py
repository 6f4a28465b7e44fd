"""A captioner ready for use: pictures in, captions out; loaded by reference.

from pipeline.predict import load_captioner
captioner = load_captioner("captioner@champion")
print([c.text for c in captioner.caption(["a.jpg", "b.png"])])
"""

from __future__ import annotations

from pipeline.predict.device import choose_device, choose_dtype
from pipeline.predict.limits import search_limits
from pipeline.predict.load import load_captioner, load_directory
from pipeline.predict.photos import Photos
from pipeline.predict.predictor import Predictor
from pipeline.tracking.refs import parse_ref

__all__ = [
    "Photos",
    "Predictor",
    "choose_device",
    "choose_dtype",
    "load_captioner",
    "load_directory",
    "parse_ref",
    "search_limits",
]
