"""Draws the JPEGs that the tests of pictures read: the kinds that cameras and printers make, 16x8 pixels, red left and blue right.

Needs Pillow: python3 image/tests/pictures/draw.py
"""

from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
picture = Image.new("RGB", (16, 8), (250, 0, 0))
picture.paste((0, 0, 250), (8, 0, 16, 8))

picture.save(HERE / "rgb.jpg", quality=95, subsampling=0)
picture.save(HERE / "progressive.jpg", quality=95, progressive=True)
picture.convert("L").save(HERE / "grey.jpg", quality=95)
picture.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)
exif = Image.Exif()
exif[0x0112] = 6
picture.save(HERE / "turned.jpg", quality=95, subsampling=0, exif=exif)
exif[0x0112] = 3
picture.save(HERE / "turned.png", exif=exif)
