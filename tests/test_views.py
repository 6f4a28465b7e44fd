"""Which part of a picture a view shows, and whether mirrored."""

from __future__ import annotations

import torch

from pipeline.predict.views import VIEWS, all_views

SIDE = 64


def views(picture: torch.Tensor, count: int = len(VIEWS)) -> dict[tuple[str, bool], torch.Tensor]:
    shown = all_views(picture[None], count)
    assert shown.shape == (count, *picture.shape)
    return dict(zip(VIEWS, shown, strict=False))


def test_the_first_is_the_picture_itself_and_the_second_its_mirror_image():
    pictures = torch.randn(3, 3, 16, 16)
    assert torch.equal(all_views(pictures, 1), pictures)
    assert torch.equal(all_views(pictures, 2), torch.cat([pictures, pictures.flip(-1)]))


def test_pictures_stay_together_within_a_view():
    first, second = torch.randn(2, 3, 16, 16)
    together = all_views(torch.stack([first, second]), 8)
    for picture, rows in ((first, together[::2]), (second, together[1::2])):
        torch.testing.assert_close(rows, all_views(picture[None], 8))


def test_a_part_shows_seven_eighths_of_each_side_and_leaves_out_the_rest():
    corners = {(0, 0): 1.0, (0, 63): 2.0, (63, 0): 3.0, (63, 63): 4.0}  # top left, top right, ...
    picture = torch.zeros(1, SIDE, SIDE)
    for (row, column), value in corners.items():
        picture[0, row, column] = value
    shown = views(picture)
    assert not shown["middle", False].any()
    kept = {"top left": 1, "top right": 2, "bottom left": 3, "bottom right": 4}
    for (part, mirrored), view in shown.items():
        if part not in kept:
            continue
        at_edges = view[0, [0, 0, 63, 63], [0, 63, 0, 63]].view(2, 2)
        if mirrored:
            at_edges = at_edges.flip(1)
        place = divmod(kept[part] - 1, 2)
        others = at_edges.clone()
        others[place] = 0
        assert at_edges[place] > 0.5 * kept[part], part
        assert not others.any(), part


def test_the_middle_is_enlarged_about_the_centre():
    picture = torch.zeros(1, SIDE, SIDE)
    picture[0, 20:44, 20:44] = 1.0
    middle = views(picture, 4)["middle", False]
    rows = middle[0].amax(1).nonzero().flatten()
    assert 63 - int(rows[-1]) == int(rows[0])  # still in the centre
    assert len(rows) > 24 * 8 / 7 - 1
    assert torch.equal(views(picture, 4)["middle", True], middle.flip(-1))
