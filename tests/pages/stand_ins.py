"""Weights for networks whose trained ones the pages have downloaded: random ones, in the same architectures.

What random weights compute fades from layer to layer, until any two results agree; so batch norms first see some noise as if they were trained, which
keeps every layer's results about 1.
"""

import contextlib


@contextlib.contextmanager
def weights(page):
    """While a page runs, its networks come with these."""
    with {"from-keras.md": keras, "from-paddle.md": paddle, "from-pytorch.md": pytorch}.get(page, contextlib.nullcontext)():
        yield


@contextlib.contextmanager
def replaced(module, name, make):
    before = getattr(module, name)
    setattr(module, name, make(before))
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def keras():
    import keras
    import numpy

    def make(before):
        def network(weights, **settings):
            assert weights == "imagenet"
            keras.utils.set_random_seed(0)
            model = before(weights=None, classifier_activation=None, **settings)
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.momentum = 0.8
            noise = numpy.random.default_rng(1).uniform(-1, 1, (4, *model.input_shape[1:])).astype("float32")
            for _ in range(20):
                model(noise, training=True)
            return model

        return network

    with replaced(keras.applications, "MobileNetV2", make):
        yield


@contextlib.contextmanager
def paddle():
    import paddle

    def make(before):
        def network(pretrained, **settings):
            assert pretrained
            paddle.seed(0)
            model = before(pretrained=False, **settings)
            model.train()
            noise = paddle.randn([4, 3, 224, 224])
            for _ in range(20):
                model(noise)
            return model

        return network

    with replaced(paddle.vision.models, "mobilenet_v2", make):
        yield


@contextlib.contextmanager
def pytorch():
    import torch
    import torchvision

    def make(before):
        def network(weights, **settings):
            assert weights is torchvision.models.MobileNet_V2_Weights.DEFAULT
            torch.manual_seed(0)
            model = before(weights=None, **settings).train()
            noise = torch.randn(4, 3, 224, 224)
            with torch.no_grad():
                for _ in range(20):
                    model(noise)
            return model

        return network

    with replaced(torchvision.models, "mobilenet_v2", make):
        yield
