# SPDX-License-Identifier: BSD-3-Clause
"""The training states that are saved and loaded: shapes of parameters and buffers, with Adam's moments or without."""
import math


def gpt2(width, layers, vocabulary, context):
    block = [[width], [width], [3 * width, width], [3 * width], [width, width], [width],
             [width], [width], [4 * width, width], [4 * width], [width, 4 * width], [width]]
    return [[vocabulary, width], [context, width]] + block * layers + [[width], [width]]


def resnet50(width):
    params, buffers = [], []

    def conv(out, into, kernel):
        params.extend([[out, into, kernel, kernel], [out], [out]])
        buffers.extend([[out], [out]])

    conv(width, 3, 7)
    into = width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = width * 2**stage
        for block in range(blocks):
            conv(inner, into, 1), conv(inner, inner, 3), conv(4 * inner, inner, 1)
            if block == 0:
                conv(4 * inner, into, 1)
            into = 4 * inner
    return params + [[1000, into], [1000]], buffers


# The last number of each: what one of "quick" is smaller by, roughly.
SIZES = {"full": 1, "quick": 10, "tiny": 1000}


def workloads(size):
    """name -> (title, shapes)"""
    gpt = {"full": (768, 12, 50257, 1024), "quick": (256, 12, 16000, 512), "tiny": (32, 2, 500, 64)}[size]
    resnet = resnet50({"full": 64, "quick": 24, "tiny": 4}[size])
    small, one = 100_000 // SIZES[size], 4 * 2**30 // 4 // SIZES[size]
    return {
        "gpt2": ("GPT-2-small and Adam", {"params": gpt2(*gpt), "buffers": [], "adam": True}),
        "resnet": ("ResNet-50 and Adam", {"params": resnet[0], "buffers": resnet[1], "adam": True}),
        "small": (f"{small:,} tensors of 64 floats", {"params": [[64]] * small, "buffers": [], "adam": False}),
        "one": ("one large tensor", {"params": [[one]], "buffers": [], "adam": False}),
    }


def growth(size):
    """Bytes in 16 tensors, and numbers of tensors of 64 floats."""
    largest = {"full": 8 * 2**30, "quick": 2**30, "tiny": 2**22}[size]
    states = {}
    count = 2**20
    while count <= largest:
        states[f"{count / 2**20:g} MiB"] = {"params": [[count // 64]] * 16, "buffers": [], "adam": False}
        count *= 8 if count < 2**29 else 2**33 // count
    for number in (1, 10, 100, 1_000, 10_000, 100_000):
        if number <= 100_000 // SIZES[size] * 10:
            states[f"{number:,} tensors"] = {"params": [[64]] * number, "buffers": [], "adam": False}
    return states


def nbytes(shapes):
    elements = sum(math.prod(shape) for shape in shapes["params"])
    return 4 * (elements * (3 if shapes["adam"] else 1) + sum(math.prod(shape) for shape in shapes["buffers"]))
