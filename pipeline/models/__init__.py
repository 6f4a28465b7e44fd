"""Captioning models: single-device code that knows no rank, no run and no configuration file."""
