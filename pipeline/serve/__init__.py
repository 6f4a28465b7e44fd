"""A registered captioner as any MLflow program loads it, see `captioner_model`."""
