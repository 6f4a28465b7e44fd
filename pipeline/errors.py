"""Every error a user can cause, and the exit code it ends a command with.

    CaptionmillError            1
    ├── ConfigError             2   a setting, an option or a path that cannot work
    │   └── TrackingAwayError       MLflow's server does not answer; it may later
    ├── DataError               3   the input files
    │   ├── AnnotationError         a captions file that is missing or malformed
    │   ├── PredictionsError        a results file that is malformed or of other images
    │   ├── BadImagesError          more unusable pictures than `max_bad_fraction` allows
    │   ├── ShardError              a shard that is missing, truncated or corrupt
    │   └── ArchiveError            an archive that cannot be read or holds no pictures
    ├── ModelError              4   a model that cannot be found, loaded or used
    │   ├── WeightsError            tensors that do not fit the architecture
    │   ├── ModelNotFoundError      a model reference that names nothing
    │   └── AliasMovedError         an alias that somebody moved while it was being decided about
    ├── TableError              5   a caption table that is not ours, differs or fails verification
    ├── BusyError               6   another run holds the directory
    ├── StorageError            7   object storage that cannot be reached, or refuses
    ├── ServerError             8   a Prefect server that cannot be reached, or refuses
    ├── RankError               1   a process of a training on several devices that died
    ├── WorkerError             1   a captioning process that died again and again
    └── StoppedError          143   asked to stop (SIGTERM); what was done is kept

    ImageError                      one picture that cannot be decoded: a row, never an exit

A message names the value, what is allowed, and the way out; passwords in URLs are masked in it.
Interrupted by the keyboard a command ends with 130; an exception outside this tree is a bug and ends it
with 1.
"""

from pipeline.masking import masked


class CaptionmillError(Exception):
    """An error that a user caused and can mend; `exit_code` is what the command ends with."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message))


class ConfigError(CaptionmillError):
    """A setting, an option or a path that cannot work; raised before any work is done."""

    exit_code = 2


class TrackingAwayError(ConfigError):
    """MLflow's server does not answer: a wrong address, or one that is away for a while."""


class DataError(CaptionmillError):
    """Input files that cannot be used."""

    exit_code = 3


class AnnotationError(DataError):
    """A captions file that is missing or malformed; names the file and the line or key."""


class PredictionsError(DataError):
    """A results file that is missing, malformed, or whose images are not the references'."""


class BadImagesError(DataError):
    """More unusable pictures than `shard.max_bad_fraction` allows."""


class ShardError(DataError):
    """A shard that is missing, truncated or corrupt; names it."""


class ArchiveError(DataError):
    """An archive that cannot be read or that holds no pictures."""


class ModelError(CaptionmillError):
    """A model that cannot be found, loaded or used."""

    exit_code = 4


class WeightsError(ModelError):
    """Tensors that do not fit the architecture; names them."""


class ModelNotFoundError(ModelError):
    """A model reference that names nothing, or a registry with no champion yet."""


class AliasMovedError(ModelError):
    """An alias that is not where a decision found it; nothing is changed."""


class TableError(CaptionmillError):
    """A caption table that is not ours, was made with another model, or fails verification."""

    exit_code = 5


class BusyError(CaptionmillError):
    """Another run holds the directory."""

    exit_code = 6


class StorageError(CaptionmillError):
    """Object storage that cannot be reached, lacks the bucket or refuses access; names the URL."""

    exit_code = 7


class ServerError(CaptionmillError):
    """A Prefect server that does not answer, refuses, or is of another version; names its URL."""

    exit_code = 8


class RankError(CaptionmillError):
    """A rank of a distributed training that died; names it, how it ended, and its log."""


class WorkerError(CaptionmillError):
    """A captioning process that died again and again; says how, and what it was doing."""


class StoppedError(CaptionmillError):
    """Asked to stop by SIGTERM, and stopped with everything done so far kept."""

    exit_code = 143


class ImageError(Exception):
    """One picture that cannot be decoded. `code` is stable; `detail` is in our own words."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
