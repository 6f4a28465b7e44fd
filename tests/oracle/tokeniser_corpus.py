"""Generates the lines on which the tokeniser is compared with pycocoevalcap's, class by class.

`corpus(lines, seed)` is the same on every run of one seed. Each line of a class holds at least
one construct of that class (tokeniser_constructs.py), at any place of a caption, and often beside
punctuation or a construct of another class. Line breaks are left out: no caption file holds them
inside a line and pycocoevalcap would answer for two lines.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import tokeniser_constructs as made

Construct = Callable[[Random], str]


def _title(rng: Random, fewest: int = 1, most: int = 4) -> str:
    return made.words(rng, fewest, most).title()


def web_text(rng: Random) -> str:
    """As the alt texts of web pictures read: titles, file names, sizes, credits, lists."""
    n, d = made.noun, made.digits
    unit = rng.choice(["", "cm", " cm", "px", "mm", " inch", '"', "in", "'"])
    size = f"{d(rng, 1, 4)}{rng.choice(['x', 'X', ' x ', '×', '*'])}{d(rng, 1, 4)}{unit}"
    maker = rng.choice("Canon Nikon Sony Fujifilm Olympus Pentax Leica Panasonic Samsung LG".split())
    model = maker + rng.choice(
        f" EOS {d(rng, 1, 3)}D| D{d(rng, 3, 4)}| α{d(rng, 1, 4)}| X-T{d(rng, 1, 1)}| EF 50mm f/1.8 II| DSC-RX{d(rng, 2, 3)}| OM-D E-M1 Mark II| K-{d(rng, 1, 2)}|® SM-G{d(rng, 3, 3)}F| 70-200mm f/2.8L IS USM| 18–55mm 1:3.5-5.6 G| ({d(rng, 2, 2)}\" 4K UHD)| 1/{d(rng, 2, 4)} sec @ f/{d(rng, 1, 1)}.{d(rng, 1, 1)}, ISO {d(rng, 3, 4)}".split("|")
    )
    end = rng.choice("jpg JPG jpeg png gif PNG webp svg tif bmp pdf mp4 psd eps CR2 html".split())
    name = rng.choice([f"IMG_{d(rng, 3, 5)}.{end}", f"DSC{d(rng, 4, 5)}.{end}", f"{n(rng)}-{n(rng)}-{d(rng)}.{end}", f"{n(rng)}_{n(rng)}_{size.strip()}.{end}", f"P{d(rng, 6, 7)}.{end}", f"{d(rng, 8, 8)}_{d(rng, 6, 6)}.{end}", f"{n(rng)}%20{n(rng)}.{end}", f"{n(rng).title()}({d(rng, 1, 1)}).{end}", f"image{d(rng, 1, 3)}.{end}", f"{n(rng)}.{n(rng)}.{end}", f"{d(rng)}.{end}", f"{n(rng)}@2x.{end}", f"wp-content/uploads/{d(rng, 4, 4)}/{n(rng)}.{end}", f"{n(rng)}+{n(rng)}.{end}", f"Screen Shot 2014-0{d(rng, 1, 1)}-12 at 10.{d(rng, 2, 2)}.07 AM.{end}", f"_MG_{d(rng, 4, 4)}", f"thumb_{n(rng)}__{d(rng)}"])  # fmt: skip
    stock = rng.choice(["Stock Photo", "Royalty Free Stock Photo", "Stock Image", "Stock Photography", "Vector", "Illustration", "Clipart", "Wallpaper", "HD Wallpaper", "Free Download"])
    mark = rng.choice(["™", "®", "©", "(TM)", "(R)", "(c)", "℠", "&trade;", "&reg;", "&copy;"])
    bar = rng.choice([" | ", " - ", " – ", " — ", " : ", " :: ", " » ", " > ", " · ", " • ", "|", " / ", ", ", " ~ ", "; ", " ★ ", " -- ", " || "])
    price = rng.choice("$£€¥") + d(rng, 1, 3) + rng.choice([".99", "", ".00", ",95", "+", "/ea.", " USD", ".-"])
    kinds = [
        f"{_title(rng)} {stock} - #{d(rng, 3, 7)}", f"{stock}{bar}{_title(rng)}", f"{_title(rng)}{bar}{_title(rng)}{bar}{n(rng).title()}.com", name, f"{_title(rng)} {name}", f"{name}{bar}{_title(rng)}", f"{_title(rng)}, {size}", f"{_title(rng)} ({size})", f"{_title(rng)} {size} {d(rng, 1, 3)}pcs/lot", f"{model} - {_title(rng)}", f"{_title(rng)} shot with {model}",
        f"{_title(rng)}{mark} {_title(rng)}", f"{mark} {d(rng, 4, 4)} {_title(rng)}. All rights reserved.", f"{made.words(rng, 3, 7).upper()}", f"{made.words(rng, 2, 4).upper()}!!! {price} OFF", f"{_title(rng)}: {price}, {_title(rng)}: {price}", f"{_title(rng)} {price} - {price}", f"{n(rng)}, {n(rng)}, {n(rng)}, {n(rng)} and {n(rng)}", f"{n(rng)},{n(rng)},{n(rng)} {n(rng)},{d(rng)}", f"Image result for {made.words(rng)}", f"Photo of {_title(rng)} by {rng.choice(made.NAMES)} (@{n(rng)})",
        f"Photo: {rng.choice(made.NAMES)} {rng.choice(made.NAMES)}/{rng.choice(['AP', 'Getty Images', 'REUTERS', 'AFP/Getty', 'The N.Y. Times'])}", f"({_title(rng)}) [{d(rng, 4, 4)}] {{{n(rng)}}}", f"{_title(rng)} S{d(rng, 1, 2)}E{d(rng, 1, 2)} {d(rng, 3, 4)}p", f"{_title(rng)} #{d(rng, 1, 3)} of {d(rng, 1, 3)}", f"Fig. {d(rng, 1, 2)}. {_title(rng)}", f"Figure {d(rng, 1, 1)}{rng.choice('abc')}: {_title(rng)} (n={d(rng)})", f"{_title(rng)} 1:{d(rng, 1, 2)} scale", f"{d(rng, 1, 2)}-pack of {_title(rng)}", f"{_title(rng)} & {_title(rng)} {d(rng, 4, 4)}", f"Top {d(rng, 1, 2)} {_title(rng)}...", f"... {_title(rng)}", f"\"{_title(rng)}\" by {rng.choice(made.NAMES)}, {d(rng, 4, 4)}, oil on canvas, {d(rng, 2, 3)} x {d(rng, 2, 3)} cm", f"{_title(rng)} w/ {_title(rng)}", f"{_title(rng)} vs. {_title(rng)}", f"Size {rng.choice(['S', 'M', 'L', 'XL', 'S/M/L', 'XXL', 'US 8.5', 'UK-10', '36C', 'One-size'])} {_title(rng)}", f"{_title(rng)} SKU:{rng.choice('ABX')}{d(rng, 3, 5)}-{d(rng, 1, 3)}", f"ISBN {d(rng, 3, 3)}-{d(rng, 1, 1)}-{d(rng, 4, 4)}-{d(rng, 4, 4)}-{d(rng, 1, 1)}", f"{_title(rng)} (Pack of {d(rng, 1, 2)})", f"{_title(rng)} {d(rng, 1, 1)}.{d(rng, 1, 1)}L V{d(rng, 1, 1)} {d(rng, 4, 4)}", f"{_title(rng)} No.{d(rng, 1, 3)}", f"Vol.{d(rng, 1, 2)} Ch.{d(rng, 1, 2)} p.{d(rng, 1, 3)}", f"<PERSON> {made.words(rng)}", f"{n(rng)}_{n(rng)}", f"{n(rng)}-{n(rng)}-{n(rng)}-{n(rng)}-{d(rng)}", f"{_title(rng)} [Explore]", f"{_title(rng)} (explored {d(rng, 1, 2)}/{d(rng, 1, 2)}/{d(rng, 2, 2)})", f"DIY {_title(rng)} - {n(rng)}'s {n(rng)} Blog", f"★ {_title(rng)} ★", f"{_title(rng)} by {n(rng)}{d(rng, 2, 3)} on DeviantArt", f"{_title(rng)} {rng.choice(made._ACCENTED)} {_title(rng)}", f"{rng.choice(made.NAMES)}'s {_title(rng)} ® {price}", f"Lat: {d(rng, 1, 2)}.{d(rng, 4, 4)}° N, {d(rng, 1, 2)}°{d(rng, 2, 2)}'{d(rng, 2, 2)}\" W", f"{_title(rng)} in {rng.choice(made.NAMES)}, {rng.choice(['CA', 'N.Y.', 'Calif.', 'UK', 'U.S.A.', 'D.C.', 'Tex.', 'Ont.'])}", f"{_title(rng)} ({d(rng, 4, 4)}) - {rng.choice(['IMDb', 'Pinterest', 'eBay', 'Etsy', 'Amazon.com', 'Flickr - Photo Sharing!', 'YouTube', 'Yelp'])}",
    ]  # fmt: skip
    text = rng.choice(kinds)
    return text + made.pick(rng, "", "", "", "", ".", "...", "!", f"{bar}{name}", f" {size}", f" {mark}", f"{bar}{_title(rng)}")


def plain(rng: Random) -> str:
    """A caption of words alone, with the punctuation that captions have."""
    a = rng.choice(("A", "The", "Two", "An", "Some", "Several", "This", "There is a", "I see a", "a", "the"))
    body = f"{a} {made.words(rng, 3, 9)}"
    if rng.random() < 0.3:
        body += made.pick(rng, ", ", " , ", "; ", " and ", " - ", " while ", ": ") + made.words(rng, 1, 4)
    return body + made.pick(rng, "", ".", ".", ".", " .", "!", "?", ". ", ",", "..")


CLASSES: dict[str, Construct] = {
    "contractions": made.contractions,
    "possessives": made.possessives,
    "abbreviations": made.abbreviations,
    "numbers": made.numbers,
    "dates": made.dates,
    "times": made.times,
    "currency": made.currency,
    "fractions": made.fractions,
    "URLs": made.urls,
    "e-mail addresses": made.emails,
    "hashtags": made.hashtags,
    "ellipses": made.ellipses,
    "dashes": made.dashes,
    "quotes": made.quotes,
    "brackets": made.brackets,
    "slashes": made.slashes,
    "ampersands": made.ampersands,
    "HTML": made.markup,
    "accents": made.accents,
    "scripts": made.scripts,
    "emoji": made.emoji,
    "control characters": made.controls,
    "web text": web_text,
    "plain captions": plain,
}
"""The classes, by the names that the comparison prints."""

_WHOLE_LINES = {"web text", "plain captions"}
"""Classes whose constructs are lines already; the others are set into a caption."""

_OTHERS = [construct for name, construct in CLASSES.items() if name not in _WHOLE_LINES]
_LINE_BREAKS = dict.fromkeys(map(ord, "\n\r\v\f\u2028\u2029"), " ")


def _line(rng: Random, name: str) -> str:
    text = CLASSES[name](rng)
    if name in _WHOLE_LINES:
        return text
    if rng.random() < 0.08:
        text = rng.choice("\"'(“‘[") + text + rng.choice("\"')”’].,!?")
    if rng.random() < 0.06:
        text += rng.choice(".,;:!?'\")-/")
    if rng.random() < 0.15:
        other = rng.choice(_OTHERS)(rng)
        joint = rng.choice((" ", " ", " ", ", ", " and ", "", "/", "-"))
        text = joint.join((text, other) if rng.random() < 0.5 else (other, text))
    before = made.words(rng, 1, 4) + " " if rng.random() < 0.7 else ""
    after = " " + made.words(rng, 1, 4) if rng.random() < 0.65 else ""
    return before + text + after + made.pick(rng, "", "", ".", ".", " .", "!", "?", " ")


def lines(name: str, count: int, seed: int = 0) -> list[str]:
    """`count` different lines of one class."""
    rng = Random(f"{name} {seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        line = _line(rng, name).translate(_LINE_BREAKS)
        if line.strip():
            found[line] = None
    return list(found)


def corpus(count: int, seed: int = 0) -> dict[str, list[str]]:
    """`count` different lines of every class."""
    return {name: lines(name, count, seed) for name in CLASSES}
