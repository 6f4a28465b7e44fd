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
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.ngrams import Floats

EPS = 1e-3
"""Least mean distance of the photos: all may be the same."""


class Photos:
    """N photos by what the encoder makes of them, with their captions."""

    def __init__(
        self, embeddings_ND: Tensor, solution_NN: Tensor, captions: Sequence[Sequence[str]]
    ) -> None:
        """Photos by their `embed`, with the inverse of their kernel plus ridge, and their captions."""
        self.embeddings_ND, self.solution_NN = (
            embeddings_ND.half(),
            solution_NN.float().contiguous(),
        )
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
        kernel = _kernel(exact, exact, _spread(exact))
        kernel.diagonal().add_(ridge)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel))
        return cls(rounded, inverse.half(), captions)

    def weights(self, embeddings_BD: Tensor) -> Floats:
        """Of the photos, for each of B pictures by their `embed`: [B, N]."""
        likeness_BN = _kernel(embeddings_BD.cpu().float(), self._directions_ND, self._spread)
        weights: Floats = (likeness_BN @ self.solution_NN).double().numpy()
        return weights

    def to_bytes(self) -> bytes:
        """A Parquet file with a row a photo; numbers in float16."""
        columns = {
            "embedding": _column(self.embeddings_ND),
            "solution": _column(self.solution_NN),
            "captions": pa.array([list(texts) for texts in self.captions], pa.list_(pa.string())),
        }
        out = io.BytesIO()
        pq.write_table(pa.table(columns), out, compression="zstd")
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse of `to_bytes`."""
        table = pq.read_table(io.BytesIO(content))
        embeddings_ND, solution_NN = (_rows(table[name]) for name in ("embedding", "solution"))
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


def _kernel(some_BD: Tensor, others_ND: Tensor, spread: float) -> Tensor:
    """exp(-|x - y|^2 / spread) of directions: [B, N]."""
    return torch.exp((some_BD @ others_ND.T - 1) * (2 / spread))


def _column(numbers_ND: Tensor) -> pa.Array:
    numbers = pa.array(numbers_ND.half().flatten().numpy())
    return pa.FixedSizeListArray.from_arrays(numbers, numbers_ND.shape[1])


def _rows(column: pa.ChunkedArray) -> Tensor:
    values: NDArray[np.float16] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return torch.from_numpy(values.astype(np.float32)).view(len(column), column.type.list_size)
