"""Writes `goldens/`: what Pillow and OpenCV make of `source.png`, and what torchvision, Keras and PaddleOCR would hand to a network.

    pip install pillow==11.3.0 numpy opencv-python-headless==4.10.0.84 && python3 image/tests/make_goldens.py

The arithmetic of the toolkits is written out here, as their sources have it, so that they need not be installed. Sizes are in the names;
`.f32` are floats, little-endian, in the order of the axes.
"""

import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

GOLDENS = Path(__file__).parent / "goldens"
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
SIZES = [(16, 9), (61, 90), (100, 23), (60, 45), (7, 5)]


def source():
    """Edges, a gradient and noise: 60 columns, 45 rows."""
    generator = np.random.default_rng(1)
    y, x = np.mgrid[0:45, 0:60]
    picture = np.stack([x * 4, y * 5, (x + y) % 7 * 36], axis=-1)
    picture[10:30, 20:40] = 255
    picture[33:, :25] = generator.integers(0, 256, (12, 25, 3))
    return Image.fromarray(picture.astype(np.uint8))


def torchvision(image, resize, crop):
    """`transforms._presets.ImageClassification`: `F.resize`, `F.center_crop`, `F.convert_image_dtype`, `F.normalize`."""
    w, h = image.size
    short, long = (w, h) if w <= h else (h, w)
    new_short, new_long = resize, int(resize * long / short)
    image = image.resize((new_short, new_long) if w <= h else (new_long, new_short), Image.BILINEAR)
    w, h = image.size
    top, left = int(round((h - crop) / 2.0)), int(round((w - crop) / 2.0))
    x = np.asarray(image.crop((left, top, left + crop, top + crop))).astype(np.float32) / np.float32(255)
    return ((x - MEAN) / STD).transpose(2, 0, 1)


def keras(image, height, width, mode):
    """`utils.load_img` with `target_size`, and `applications.imagenet_utils._preprocess_numpy_input`."""
    x = np.asarray(image.resize((width, height), Image.NEAREST)).astype(np.float32)
    if mode == "tf":
        x /= np.float32(127.5)
        x -= np.float32(1)
    elif mode == "torch":
        x /= np.float32(255)
        x -= MEAN
        x /= STD
    elif mode == "caffe":
        x = x[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    return x


def paddle_detector(image, limit, kind):
    """`ppocr/data/imaug/operators.py`: `DetResizeForTest.resize_image_type0`, `NormalizeImage`, `ToCHWImage`."""
    x = np.asarray(image)[..., ::-1]
    h, w = x.shape[:2]
    ratio = 1.0
    if kind == "max" and max(h, w) > limit:
        ratio = limit / max(h, w)
    if kind == "min" and min(h, w) < limit:
        ratio = limit / min(h, w)
    h, w = (max(int(round(int(side * ratio) / 32) * 32), 32) for side in (h, w))
    x = cv2.resize(np.ascontiguousarray(x), (w, h))
    return ((x.astype("float32") * np.float32(1.0 / 255.0) - MEAN) / STD).transpose(2, 0, 1)


def paddle_line(image, height, width):
    """`tools/infer/predict_rec.py`: `resize_norm_img`; the width grows with the picture."""
    x = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    h, w = x.shape[:2]
    width = int(height * max(width / height, w / h))
    ratio = w / float(h)
    resized = width if math.ceil(height * ratio) > width else int(math.ceil(height * ratio))
    x = cv2.resize(x, (resized, height)).astype("float32").transpose(2, 0, 1) / np.float32(255)
    x -= np.float32(0.5)
    x /= np.float32(0.5)
    padded = np.zeros((3, height, width), dtype=np.float32)
    padded[:, :, :resized] = x
    return padded


def main():
    GOLDENS.mkdir(exist_ok=True)
    image = source()
    image.save(GOLDENS / "source.png")
    for width, height in SIZES:
        for name, kind in FILTERS.items():
            image.resize((width, height), kind).save(GOLDENS / f"{name}-{width}x{height}.png")
        linear = cv2.resize(np.asarray(image), (width, height), interpolation=cv2.INTER_LINEAR)
        Image.fromarray(linear).save(GOLDENS / f"linear-{width}x{height}.png")
    tensors = {
        "torchvision-32-28": torchvision(image, 32, 28),
        "torchvision-33-28": torchvision(image.transpose(Image.TRANSPOSE), 33, 28),
        "keras-tf": keras(image, 20, 24, "tf"),
        "keras-torch": keras(image, 20, 24, "torch"),
        "keras-caffe": keras(image, 20, 24, "caffe"),
        "keras-raw": keras(image, 20, 24, "raw"),
        "paddle-detector-max-40": paddle_detector(image, 40, "max"),
        "paddle-detector-min-46": paddle_detector(image, 46, "min"),
        "paddle-line-12-40": paddle_line(image, 12, 40),
        "paddle-line-12-40-wide": paddle_line(image.crop((0, 12, 60, 20)), 12, 40),
    }
    for name, tensor in tensors.items():
        extents = "x".join(map(str, tensor.shape))
        np.ascontiguousarray(tensor, dtype="<f4").tofile(GOLDENS / f"{name}-{extents}.f32")


if __name__ == "__main__":
    main()
