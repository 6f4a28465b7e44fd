"""Picture formats that are known by their first bytes, and not read."""

from __future__ import annotations

import re

_OTHER_FORMATS = (
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\x00\x00\x00\x0cJXL |\xff\x0a"), "JPEG XL"),
    (re.compile(rb"8BPS"), "PSD"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript"),
    (re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml|<!--|<!DOCTYPE svg|<svg).{0,4096}", re.DOTALL), "SVG"),
    (re.compile(rb"\x00\x00[\x01\x02]\x00[\x01-\xff]\x00|icns"), "ICO"),
    (re.compile(rb"P[1-7]\s+(#|\d|WIDTH)"), "PNM"),
    (
        re.compile(
            rb"DDS |II\xbc\x01|\x59\xa6\x6a\x95|v/1\x01|#\?RADIANCE|qoif|FLIF|BPG\xfb|AT&TFORM|gimp xcf"
        ),
        "this format",
    ),
    (
        re.compile(rb"II\*\x00.{4}CR|II(RO|RS|U\x00)|FUJIFILMCCD-RAW|FOVb|.{4}ftypcrx", re.DOTALL),
        "RAW",
    ),
    (
        re.compile(rb"\x01\x00\x00\x00.{36} EMF|\xd7\xcd\xc6\x9a|\x8a[MJ]NG", re.DOTALL),
        "this format",
    ),
    (re.compile(rb".{128}DICM|SIMPLE  =", re.DOTALL), "this format"),
)


def other_format(data: bytes) -> str | None:
    """What a file is called that begins so; None for what is no picture at all."""
    for pattern, name in _OTHER_FORMATS:
        match = pattern.match(data)
        # XML is a picture only if it holds an svg element.
        if match and (name != "SVG" or b"<svg" in match[0]):
            return name
    return None
