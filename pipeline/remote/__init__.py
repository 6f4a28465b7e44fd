"""Objects on S3-compatible storage, as paths that read, write whole objects and list.

Knows no stage. Nothing here is imported by a run without an `s3://` URL but the class of its
paths; s3fs (`pip install 'captionmill[s3]'`) is imported by the first request.
"""

from pipeline.remote.path import Entry, Location, RemotePath, is_url, location

__all__ = ["Entry", "Location", "RemotePath", "is_url", "location"]
