"""What each package is asked to do: `load` makes what it offers, `work` uses it and returns what can be compared and written as JSON.

Packages are imported inside of the functions: each of them is alone in its environment.
"""

import pathlib

import numpy

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Ocr:
    """`rapidocr-onnxruntime` reads pages."""

    def load(self):
        import cv2
        from rapidocr_onnxruntime import RapidOCR

        pictures = sorted((ROOT / "tests" / "trained" / "pictures").glob("*.png"))
        self.pages = {picture.name: cv2.imread(str(picture)) for picture in pictures}
        self.read = RapidOCR()

    def work(self):
        found = {}
        for name, page in self.pages.items():
            lines, _ = self.read(page)
            found[name] = [{"text": text, "box": numpy.array(box).tolist(), "score": float(score)} for box, text, score in lines or []]
        assert sum(len(lines) for lines in found.values()) > 40, found
        return found


class Nudity:
    """`nudenet` finds faces and more on a picture."""

    def load(self):
        import cv2
        from nudenet import NudeDetector

        portrait = cv2.imread(str(ROOT / "target" / "packages" / "astronaut.png"))
        self.sizes = {320: NudeDetector(), 480: NudeDetector(inference_resolution=480), 640: NudeDetector(inference_resolution=640)}
        self.pictures = [portrait, portrait[:, ::-1].copy(), portrait[:300, 100:400].copy()]

    def work(self):
        found = {size: detector.detect_batch(self.pictures) for size, detector in self.sizes.items()}
        assert any(box["class"].startswith("FACE") for boxes in found[320] for box in boxes), found
        return {str(size): boxes for size, boxes in found.items()}


class Kinds:
    """`magika` says what kinds files are of."""

    def load(self):
        from magika import Magika

        names = ["README.md", "Cargo.toml", "compiler/src/lib.rs", "tests/onnx/fetch.py", "capi/include/nnc.h", ".ci/run"]
        names += ["compiler/assets/harbour.png", "image/tests/pictures/rgb.jpg", "tests/goldens/odd_numbers.npz", "python/packages/packages.json"]
        self.files = [ROOT / name for name in names]
        missing = [name for name in names if not (ROOT / name).exists()]
        assert not missing, f"{missing} are gone: name other files of the project"
        self.magika = Magika()

    def work(self):
        alone = [self.magika.identify_path(file) for file in self.files]
        together = self.magika.identify_paths(self.files)
        labels = [{"label": str(result.output.label), "score": float(result.score)} for result in [*alone, *together]]
        assert {"markdown", "rust", "python", "png", "jpeg"} <= {one["label"] for one in labels}, labels
        return labels


class Speech:
    """`silero-vad` says when somebody speaks."""

    #: The first resonances of a mouth that says a vowel, in Hz.
    VOWELS = [(730, 1090, 2440, 3400), (270, 2290, 3010, 3700), (300, 870, 2240, 3300), (530, 1840, 2480, 3500), (570, 840, 2410, 3300)]

    def load(self):
        import silero_vad
        import torch

        self.vad = silero_vad
        self.model = silero_vad.load_silero_vad(onnx=True)
        self.sounds = {rate: torch.from_numpy(self.speech([6, 9, 4], rate)) for rate in (16000, 8000)}

    def work(self):
        found = {}
        for rate, sound in self.sounds.items():
            segments = self.vad.get_speech_timestamps(sound, self.model, sampling_rate=rate)
            assert len(segments) == 3, segments
            probabilities = self.model.audio_forward(sound[None], rate)[0].tolist()
            found[str(rate)] = {"segments": segments, "probability": probabilities}
        return found

    def speech(self, words, rate):
        """Words of so many syllables, with pauses between them."""
        seeds = numpy.random.default_rng(1)
        parts = []
        for syllables in words:
            for _ in range(syllables):
                parts.append(self.vowel(seeds.uniform(0.12, 0.25), seeds.uniform(100, 140), self.VOWELS[seeds.integers(5)], rate))
                parts.append(seeds.normal(0, 0.05, rate // 20))
            parts.append(numpy.zeros(rate * 4 // 5))
        sound = numpy.concatenate(parts)
        return (0.3 * sound + seeds.normal(0, 0.002, sound.size)).astype("f4")

    def vowel(self, seconds, pitch, formants, rate):
        """Pulses of a voice through the resonances of a mouth."""
        times = numpy.arange(int(seconds * rate)) / rate
        cycles = numpy.cumsum(pitch * (1 + 0.03 * numpy.sin(2 * numpy.pi * 5 * times))) / rate
        sound = numpy.diff(numpy.floor(cycles), prepend=0.0)
        for frequency, width in zip(formants, (80, 90, 120, 150)):
            if frequency < rate / 2:
                sound = self.resonance(sound, frequency / rate, width / rate)
        return sound * numpy.minimum(1, numpy.minimum(times, times[::-1]) / 0.03)

    def resonance(self, sound, frequency, width):
        radius = numpy.exp(-numpy.pi * width)
        turn = 2 * radius * numpy.cos(2 * numpy.pi * frequency)
        before, last, out = 0.0, 0.0, numpy.zeros(sound.size)
        for at, pulse in enumerate(sound):
            before, last = last, pulse + turn * last - radius * radius * before
            out[at] = last
        return out / abs(out).max()


CASES = {"rapidocr-onnxruntime": Ocr, "nudenet": Nudity, "magika": Kinds, "silero-vad": Speech}
