"""What is wrong with an environment, and how to mend it.

A check is a module with a function `check(inputs)` that yields findings. Each runs in a process of
its own with a deadline, so that a driver that crashes or a mount that hangs costs its own line and
nothing else. Checks change nothing: what they write to try a place they remove again.
"""

from pipeline.doctor.examine import Check, examine
from pipeline.doctor.finding import Finding, Inputs

__all__ = ["Check", "Finding", "Inputs", "examine"]
