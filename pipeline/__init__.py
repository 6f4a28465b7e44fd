"""captionmill's work: shards, models, search, metrics and bulk captioning. Knows no orchestrator."""
