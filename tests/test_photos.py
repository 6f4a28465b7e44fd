"""How much training photos tell about another picture: kernel ridge regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.predict.photos import Photos, embed


def directions(count: int, width: int = 24, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return embed(torch.randn(1, count, width, generator=generator) + 0.5)


def test_they_solve_the_ridge_regression():
    """Against NumPy's own solution, for targets that the pictures determine and ones that they do not."""
    known, new, ridge = directions(40), directions(7, seed=1), 0.3
    targets = np.random.default_rng(0).normal(size=(40, 5))

    def kernel(some, others):
        distance = ((some[:, None] - others[None]) ** 2).sum(-1)
        return np.exp(-distance / ((x[:, None] - x[None]) ** 2).sum(-1).mean())

    x, z = known.double().numpy(), new.double().numpy()
    expected = kernel(z, x) @ np.linalg.solve(kernel(x, x) + ridge * np.eye(40), targets)
    photos = Photos.fit(known, [["a"]] * 40, ridge)
    np.testing.assert_allclose(photos.weights(new) @ targets, expected, atol=2e-3)


@pytest.mark.parametrize("ridge", [0.01, 0.3])
def test_many_that_are_nearly_the_same_are_told_apart(ridge):
    """Where the kernel is close to singular: 20 pictures, each 30 times with little noise."""
    noise = torch.randn(600, 24, generator=torch.Generator().manual_seed(2))
    known = embed((directions(20).repeat(30, 1) + 1e-3 * noise)[None])
    x = torch.nn.functional.normalize(known.half().float(), dim=-1).double().numpy()
    new = directions(5, seed=1)
    products = new.double().numpy() @ x.T
    spread = 2 - 2 * (x.mean(0) ** 2).sum()
    kernel = np.exp((x @ x.T - 1) * 2 / spread) + ridge * np.eye(600)
    expected = np.linalg.solve(kernel, np.exp((products - 1) * 2 / spread).T).T
    found = Photos.fit(known, [["a"]] * 600, ridge).weights(new)
    np.testing.assert_allclose(found, expected, atol=2e-3 * abs(expected).max())


def test_weights_do_not_depend_on_who_else_is_asked_about():
    photos, new = Photos.fit(directions(200), [["a"]] * 200, 0.3), directions(33, seed=1)
    alone = np.concatenate([photos.weights(one[None]) for one in new])
    np.testing.assert_array_equal(photos.weights(new), alone)


def test_a_photo_tells_most_about_itself_the_less_the_larger_the_ridge():
    known = directions(40)
    own = [
        Photos.fit(known, [["a"]] * 40, ridge).weights(known).diagonal().mean()
        for ridge in (0.01, 0.3, 3.0)
    ]
    assert own[0] > 0.95
    assert own[0] > own[1] > own[2] > 0


def test_photos_that_are_all_the_same_share_alike():
    photos = Photos.fit(directions(1).expand(8, -1), [["a"]] * 8, 0.5)
    np.testing.assert_allclose(photos.weights(directions(1)), np.full((1, 8), 1 / 8.5), atol=1e-3)


def test_a_file_keeps_them():
    photos = Photos.fit(directions(9), [["a dog", "A dog."], *[["a cat"]] * 8], 0.5)
    again = Photos.from_bytes(photos.to_bytes())
    assert again.captions == photos.captions
    new = directions(3, seed=1)
    np.testing.assert_array_equal(again.weights(new), photos.weights(new))


def test_one_direction_a_picture_whichever_view_is_named_first():
    views = torch.randn(3, 5, 24)
    own = embed(views)
    torch.testing.assert_close(own.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(embed(views.flip(0)), own)
    # The sign stays, and four times as much counts twice as much.
    torch.testing.assert_close(
        embed(torch.tensor([[[4.0, -1.0]]])), torch.tensor([[2.0, -1.0]]) / 5**0.5
    )
