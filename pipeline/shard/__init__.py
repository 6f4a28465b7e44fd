"""`shard`: pictures and captions into WebDataset tars. Knows no model and no pixel's meaning."""

from pipeline.shard.stage import find_shard_set, shard, shard_directory

__all__ = ["find_shard_set", "shard", "shard_directory"]
