"""Which decoder reads a format: Pillow's own, and pillow-heif's where it is installed."""

from __future__ import annotations

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from pipeline.errors import ImageError

EXTENSIONS = {
    "jpeg": "jpg",
    "png": "png",
    "webp": "webp",
    "gif": "gif",
    "bmp": "bmp",
    "tiff": "tif",
    "avif": "avif",
    "heic": "heic",
}
"""Of files, by format."""
UPRIGHT = ("tiff", "heic")
"""Formats whose decoder turns the picture itself."""

# The classes themselves, since Image.open would look for other formats in the same bytes.
_ALWAYS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}


def decoder_of(name: str) -> type[ImageFile.ImageFile]:
    """The decoder of a format.

    Raises:
        ImageError: unsupported_format, where Pillow or the extra `heif` does not have it.
    """
    if name in _ALWAYS:
        return _ALWAYS[name]
    decoder: type[ImageFile.ImageFile]
    if name == "avif":
        if not features.check("avif"):
            raise ImageError("unsupported_format", "AVIF is read with pip install 'pillow>=11.3'")
        from PIL.AvifImagePlugin import AvifImageFile

        decoder = AvifImageFile
    else:
        try:
            from pillow_heif.as_plugin import HeifImageFile
        except ImportError:
            raise ImageError(
                "unsupported_format", "HEIC is read with pip install 'captionmill[heif]'"
            ) from None
        decoder = HeifImageFile
    return decoder
