"""The training photos that look most like a picture to the model, and what people said of them.

A caption that would do for many photos like this one is rarely wrong about this one: Devlin et al.
2015, 'Exploring Nearest Neighbor Approaches for Image Captioning' (arXiv:1505.04467).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.models.captioner import Captioner, Memory


class Neighbours:
    """N photos by what the model makes of them, with their captions."""

    def __init__(self, embeddings_ND: Tensor, captions: Sequence[Sequence[str]]) -> None:
        """Photos by their `embed`, with the captions of each."""
        self.embeddings_ND, self.captions = embeddings_ND.half(), captions

    @classmethod
    @torch.inference_mode()
    def of(
        cls, model: Captioner, features: Iterable[Tensor], captions: Sequence[Sequence[str]]
    ) -> Self:
        """Those of photos whose features come in batches, in the order of their `captions`."""
        device = next(model.parameters()).device
        batches = [embed(model.memory(batch.to(device))).cpu() for batch in features]
        return cls(torch.cat(batches), captions)

    def nearest(self, memory: Memory, count: int) -> list[list[str]]:
        """The captions of the `count` nearest photos, by cosine, for each picture of a memory."""
        own_BD = embed(memory).cpu()
        likeness_BN = own_BD @ self.embeddings_ND.float().T
        places = likeness_BN.topk(min(count, len(self.captions)), dim=-1).indices
        return [[text for place in row for text in self.captions[place]] for row in places.tolist()]

    def to_bytes(self) -> bytes:
        """A Parquet file with a row a photo."""
        width = self.embeddings_ND.shape[1]
        numbers = pa.array(self.embeddings_ND.flatten().numpy())
        columns = {
            "embedding": pa.FixedSizeListArray.from_arrays(numbers, width),
            "captions": pa.array([list(texts) for texts in self.captions], pa.list_(pa.string())),
        }
        out = io.BytesIO()
        pq.write_table(pa.table(columns), out, compression="zstd")
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse of `to_bytes`."""
        table = pq.read_table(io.BytesIO(content))
        column = table["embedding"].combine_chunks()
        numbers = torch.from_numpy(column.flatten().to_numpy(zero_copy_only=False).copy())
        return cls(numbers.view(len(table), column.type.list_size), table["captions"].to_pylist())


def embed(memory: Memory) -> Tensor:
    """What a decoder attends to as one direction a picture: float32 [B, D] of length 1."""
    mean_BD = memory.tokens_BSD.float().mean(1)
    return torch.nn.functional.normalize(mean_BD, dim=-1)
