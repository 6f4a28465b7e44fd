"""The flows' parameters: their bounds, which Prefect checks and its form shows.

What a parameter means stands in its flow's docstring, where the form takes it from.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

PATH_LENGTH = 4096

PathText = Annotated[str, Field(min_length=1, max_length=PATH_LENGTH)]
ConfigFile = PathText | None
Override = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*=", max_length=PATH_LENGTH)]
Overrides = Annotated[list[Override], Field(max_length=200)] | None
Paths = Annotated[list[PathText], Field(max_length=1000)]
Archives = Annotated[list[PathText], Field(min_length=1, max_length=1000)]
# It stands in names, logs and terminals: no line breaks, no control characters.
Cause = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
Deployments = Annotated[
    list[Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", max_length=200)]], Field(max_length=20)
]
Days = Annotated[int, Field(ge=1, le=365)]
ModelRef = PathText | None
Split = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=100)] | None
