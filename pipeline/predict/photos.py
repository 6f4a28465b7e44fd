"""Training photos, and how much what people said of each tells about another picture.

Kernel ridge regression (Saunders et al. 1998, 'Ridge Regression Learning Algorithm in Dual
Variables') from pictures to what is said of them. Whatever is linear in the captions of a picture,
such as another caption's mean CIDEr-D with them, is then a weighed sum over the photos; and the
weights are told by the picture alone: photos that look alike count, those that share only what most
photos share count little, or against. It says more than the nearest photos do (Devlin et al. 2015,
'Exploring Nearest Neighbor Approaches for Image Captioning', arXiv:1505.04467).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.metrics.ngrams import Floats, offsets

EPS = 1e-3
"""Least mean distance of the photos: all may be the same."""


class Photos:
    """N photos by what the encoder makes of them, with their captions."""

    def __init__(
        self, embeddings_ND: Tensor, solution_NN: Tensor, captions: Sequence[Sequence[str]]
    ) -> None:
        """Photos by their `embed`, with the inverse of their kernel plus ridge, and their captions."""
        self.embeddings_ND = embeddings_ND.half()
        self.solution_NN = solution_NN.float().contiguous()
        self.captions = captions
        self._directions_ND = _directions(self.embeddings_ND)
        self._spread = _spread(self._directions_ND)

    @classmethod
    def fit(cls, embeddings_ND: Tensor, captions: Sequence[Sequence[str]], ridge: float) -> Self:
        """Photos by their `embed`; the larger the ridge, the less a single photo says.

        In float64, since the inverse is only as exact as its kernel is well conditioned.
        """
        rounded = embeddings_ND.half()  # as the file keeps them
        exact = _directions(rounded).double()
        kernel = _kernel(exact @ exact.T, _spread(exact))
        kernel.diagonal().add_(ridge)
        lower = torch.cholesky_inverse(torch.linalg.cholesky(kernel)).float().tril()
        return cls(rounded, lower + lower.tril(-1).T, captions)

    def weights(self, embeddings_BD: Tensor) -> Floats:
        """Of the photos, for each of B pictures by their `embed`: [B, N]."""
        # Picture by picture: a product's last bits depend on how many there are.
        rows = [self._weights(own_D) for own_D in embeddings_BD.cpu().float()]
        weights: Floats = torch.stack(rows).double().numpy()
        return weights

    def _weights(self, own_D: Tensor) -> Tensor:
        likeness_N = _kernel(torch.mv(self._directions_ND, own_D), self._spread)
        return torch.mv(self.solution_NN, likeness_N)

    def to_bytes(self) -> bytes:
        """A Parquet file with a row a photo: its embedding, and of the symmetric solution what is new."""
        numbers, width = self.embeddings_ND.flatten().numpy(), self.embeddings_ND.shape[1]
        columns = {
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(numbers), width),
            "solution": _triangle(self.solution_NN),
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
        embeddings_ND = numbers.view(len(table), column.type.list_size)
        solution_NN = _whole(table["solution"].combine_chunks())
        return cls(embeddings_ND, solution_NN, table["captions"].to_pylist())


def embed(means_VBC: Tensor) -> Tensor:
    """Encoder tokens' means of V views as one direction a picture: float32 [B, C] of length 1.

    With signed square roots, so that a few strong channels do not decide alone (Perronnin et al.
    2010, 'Improving the Fisher Kernel for Large-Scale Image Classification').
    """
    mean_BC = means_VBC.float().mean(0)
    return _directions(mean_BC.sign() * mean_BC.abs().sqrt())


def _directions(vectors_ND: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors_ND.float(), dim=-1)


def _spread(embeddings_ND: Tensor) -> float:
    """The photos' mean squared distance from each other."""
    return max(2 - 2 * float(embeddings_ND.double().mean(0).square().sum()), EPS)


def _kernel(products: Tensor, spread: float) -> Tensor:
    """exp(-|x - y|^2 / spread) of directions by their products."""
    return torch.exp((products - 1) * (2 / spread))


def _triangle(symmetric_NN: Tensor) -> pa.Array:
    """A row's numbers up to the diagonal: half of them, since the rest stands in later rows."""
    rows = symmetric_NN.numpy()
    values = np.concatenate([row[: place + 1] for place, row in enumerate(rows)])
    return pa.ListArray.from_arrays(pa.array(offsets(range(1, len(rows) + 1)), pa.int32()), values)


def _whole(triangle: pa.ListArray) -> Tensor:
    """The inverse of `_triangle`."""
    whole, start = torch.zeros(len(triangle), len(triangle)), 0
    numbers = torch.from_numpy(triangle.flatten().to_numpy(zero_copy_only=False).copy())
    for place, row in enumerate(whole):
        row[: place + 1] = numbers[start : start + place + 1]
        start += place + 1
    whole += whole.tril(-1).T
    return whole
