"""The networks that are compared: rows of the tables, with the arguments of `nnc models write` that make them."""

SEEDS = {
    "mobilenet-v1-1.0-224": ["mobilenet-v1"],
    "mobilenet-v1-0.5-160": ["mobilenet-v1", "--width", "0.5", "--resolution", "160"],
    "mobilenet-v2-1.0": ["mobilenet-v2"],
    "squeezenet-1.0": ["squeezenet-1.0"],
    "squeezenet-1.1": ["squeezenet-1.1"],
    "shufflenet-v1-g1": ["shufflenet-v1", "--groups", "1"],
    "shufflenet-v1-g3": ["shufflenet-v1", "--groups", "3"],
    "shufflenet-v1-g8": ["shufflenet-v1", "--groups", "8"],
    "shufflenet-v2-0.5": ["shufflenet-v2", "--width", "0.5"],
    "shufflenet-v2-1.0": ["shufflenet-v2"],
    "shufflenet-v2-1.5": ["shufflenet-v2", "--width", "1.5"],
    "nasnet-a-mobile": ["nasnet-a-mobile"],
}
"""The compact networks that nnc is made for."""

LARGE = {
    "densenet-121": ["densenet-121"],
    "resnet-18": ["resnet-18"],
    "resnet-50": ["resnet-50"],
    "alexnet": ["alexnet"],
    "xception": ["xception"],
}

MORE = {
    "mobilenet-v3-small": ["mobilenet-v3-small"],
    "mobilenet-v3-large": ["mobilenet-v3-large"],
    "efficientnet-b0": ["efficientnet-b0"],
    "ghostnet": ["ghostnet"],
    "convnext-atto": ["convnext-atto"],
    "vit-tiny-16": ["vit-tiny-16"],
    "mobilevit-xxs": ["mobilevit-xxs"],
    "yolo-v8n": ["yolo-v8n"],
    "unet-small": ["unet-small"],
    "espcn-x3": ["espcn-x3"],
    "crnn": ["crnn"],
}
"""Gates, attention, recurrence, and other tasks than classification."""

SETS = {"seeds": SEEDS, "large": LARGE, "more": MORE}
NETWORKS = SEEDS | LARGE | MORE
