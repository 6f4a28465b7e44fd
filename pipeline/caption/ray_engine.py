"""The engine that captions on a Ray cluster: the fleet's workers are held by actors on its nodes.

Ray places workers and carries what is said. Which units there are, what a death is blamed on, and what
is committed, stays with the run, as with processes on this machine.
"""

from __future__ import annotations

import importlib.util
import os

from pipeline.caption.fleet import Fleet
from pipeline.caption.loader import Loader
from pipeline.caption.ray_cluster import Cluster, Remote
from pipeline.config import CaptionConfig
from pipeline.errors import ConfigError


class RayFleet(Fleet):
    """Workers on a Ray cluster: an existing one, or one of this run's own on this machine."""

    def __init__(self, config: CaptionConfig, loader: Loader) -> None:
        """No cluster is looked for yet.

        Raises:
            ConfigError: Ray is not installed, or settings that cannot work with it.
        """
        self._address = address_of(config)
        if loader.pinned:
            raise ConfigError(
                f"device = {loader.arguments['device']} names one GPU, but Ray chooses which one a"
                " worker gets; set device = cuda, or caption.engine = local"
            )
        workers = None if config.workers == "auto" else config.workers
        super().__init__("ray", self._open, workers, config.hang_seconds)
        self._config, self._loader = config, loader
        self._cluster: Cluster | None = None

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._cluster is not None:
            self._cluster.close()

    def _open(self, number: int) -> Remote:
        if self._cluster is None:
            self._cluster = Cluster(self._config, self._loader, self._address)
        return self._cluster.open(number)


def address_of(config: CaptionConfig) -> str | None:
    """Of the cluster to use; None: one on this machine is to be started.

    Raises:
        ConfigError: Ray is not installed, or an address of a kind that cannot be used.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "caption.engine = ray needs Ray, which is not installed; pip install"
            " 'captionmill[ray]', or set caption.engine = local"
        )
    address = config.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    if "://" in address:
        raise ConfigError(
            f"caption.ray_address = {address!r} is for Ray Client, which is not supported; run the"
            " command on a machine of the cluster (`ray job submit` does) and give host:port or auto"
        )
    return None if address == "local" else address
