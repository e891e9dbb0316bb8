#!/usr/bin/env python3
"""Draws the pages in pictures/ that are drawn, for tests/trained/ocr.py to read.

    venv/bin/python tests/trained/make_pages.py FONTS CJK.otf

FONTS is a folder with the DejaVu fonts 2.37, CJK.otf the font Noto Sans CJK. Everything else (sizes, angles, noise) is drawn from
a fixed seed; another version of Pillow, or of FreeType, may place a pixel differently.
"""

import pathlib
import sys

import numpy
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PICTURES = pathlib.Path(__file__).resolve().parent / "pictures"
FONTS, CJK = map(pathlib.Path, sys.argv[1:3])


def font(name, size):
    return ImageFont.truetype(str(CJK if name == "cjk" else FONTS / f"DejaVu{name}.ttf"), size)


def page(size, lines, ink=20, paper=245):
    """A page of gray levels with lines of text: (left, top, font, size, text)."""
    image = Image.new("L", size, paper)
    draw = ImageDraw.Draw(image)
    for left, top, name, points, text in lines:
        draw.text((left, top), text, fill=ink, font=font(name, points))
    return image


def photographed(image, angle, blur, noise, seed):
    """As a camera sees it: turned a little, lit from one side, out of focus, with noise."""
    image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=image.getpixel((1, 1)))
    pixels = numpy.asarray(image.filter(ImageFilter.GaussianBlur(blur)), dtype=numpy.float64)
    light = numpy.linspace(0.72, 1.0, pixels.shape[1])[None, :] * numpy.linspace(1.0, 0.9, pixels.shape[0])[:, None]
    pixels = pixels * light + numpy.random.default_rng(seed).normal(0, noise, pixels.shape)
    return Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8))


def save(name, image, levels=16):
    """With few gray levels, for small files."""
    step = 255 / (levels - 1)
    indices = numpy.round(numpy.asarray(image, dtype=numpy.float64) / step).astype(numpy.uint8)
    palette = Image.fromarray(indices, mode="P")
    palette.putpalette([round(level * step) for level in range(levels) for _ in range(3)])
    palette.save(PICTURES / name, optimize=True, bits=4)


LETTER = [
    (40, 30, "Serif-Bold", 34, "The Lighthouse Keeper"),
    (40, 84, "Serif-Italic", 20, "a letter, written in the autumn of 1894"),
    (40, 130, "Serif", 17, "Dear Margaret, the lamp has burned for forty nights"),
    (40, 158, "Serif", 17, "without a storm. Two ships passed us on Tuesday, and"),
    (40, 186, "Serif", 17, "a third one at dawn; her captain waved his hat."),
    (40, 232, "Sans", 15, "Oil: 12 barrels     Wicks: 30     Wind: NNE, 4 knots"),
    (40, 262, "Sans-Bold", 22, "Please send more paper!"),
    (330, 310, "Serif-Italic", 24, "Yours, Jonathan"),
]
RECEIPT = [
    (60, 20, "SansMono-Bold", 24, "CORNER SHOP"),
    (30, 62, "SansMono", 16, "2 x Oranges        3.40"),
    (30, 88, "SansMono", 16, "1 x Rye bread      4.15"),
    (30, 114, "SansMono", 16, "6 x Eggs           2.99"),
    (30, 140, "SansMono", 16, "1 x Coffee, ground 7.80"),
    (30, 176, "SansMono-Bold", 18, "TOTAL         18.34"),
    (30, 214, "SansMono", 14, "08/11/2026 17:42  No. 00417"),
    (48, 244, "SansMono", 14, "thank you, come again"),
]
CHINESE = [
    (30, 24, "cjk", 34, "今天天气很好"),
    (30, 84, "cjk", 22, "我们去公园散步，看见很多花。"),
    (30, 124, "cjk", 22, "电话：010-88426731"),
    (30, 164, "cjk", 18, "北京市海淀区中关村大街二十七号"),
    (30, 204, "Sans", 18, "Opening hours 9:00 - 18:30"),
]
TURNED = [
    (30, 24, "Sans-Bold", 26, "THIS SIDE DOWN"),
    (30, 74, "Sans", 20, "Handle with care, glass inside"),
    (30, 110, "Sans", 20, "Net weight 14.5 kg"),
]


def sign():
    """White words on a photograph, one of them up the side."""
    image = Image.open(PICTURES / "coffee.png").convert("L").resize((480, 480), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    draw.text((60, 18), "FRESH COFFEE", fill=255, font=font("Sans-Bold", 42), stroke_width=3, stroke_fill=10)
    draw.text((70, 400), "open every day from 7 to 19", fill=250, font=font("Serif-Bold", 24), stroke_width=3, stroke_fill=10)
    side = Image.new("L", (300, 46), 0)
    ImageDraw.Draw(side).text((6, 2), "Espresso Bar", fill=255, font=font("Sans-Bold", 32))
    image.paste(side.rotate(90, expand=True), (8, 90))
    return image


def main():
    save("letter.png", page((640, 360), LETTER))
    save("receipt.png", photographed(page((330, 290), RECEIPT, 30, 235), 3.5, 0.7, 6, 1))
    save("chinese.png", page((440, 250), CHINESE))
    save("turned.png", photographed(page((420, 160), TURNED), -1.5, 0.6, 3, 2).rotate(180))
    save("sign.png", sign())


if __name__ == "__main__":
    main()
