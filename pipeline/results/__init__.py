"""Scoring captions of any system: its results file against COCO references, no model needed.

Knows files and scores; no stage's record and no shards.
"""
