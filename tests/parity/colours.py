# SPDX-License-Identifier: MIT
"""Changes of colours, written from the formulas in pfeed.yaml(5), in float32 as there; and the same by torchvision, where it is
installed. Pictures are (height, width, 3) of uint8."""
import numpy as np

F = np.float32

try:
    import torch
    from torchvision.transforms.v2 import functional as vision
except (ImportError, OSError):
    vision = None


def grey(pixels):
    wide = pixels.astype(np.int64)
    return (2989 * wide[:, :, 0] + 5870 * wide[:, :, 1] + 1140 * wide[:, :, 2]) // 10000


def bytes_of(values):
    return np.clip(values, F(0), F(255)).astype(np.uint8)


def brightness(pixels, factor):
    return bytes_of(pixels.astype(F) * F(factor))


def contrast(pixels, factor):
    mean = F(grey(pixels).sum() / grey(pixels).size)
    return bytes_of(pixels.astype(F) * F(factor) + F(1 - factor) * mean)


def saturation(pixels, factor):
    return bytes_of(pixels.astype(F) * F(factor) + F(1 - factor) * grey(pixels).astype(F)[:, :, None])


def hue(pixels, turn):
    rgb = pixels.astype(F) * F(1 / 255)
    most, least = rgb.max(2), rgb.min(2)
    span = most - least
    flat = span == 0
    s = span / np.where(flat, F(1), most)
    r, g, b = np.moveaxis((most[:, :, None] - rgb) / np.where(flat, F(1), span)[:, :, None], 2, 0)
    sixths = np.where(most == rgb[:, :, 0], b - g, np.where(most == rgb[:, :, 1], r + F(2) - b, g + F(4) - r))
    h = np.fmod(sixths * F(1 / 6) + F(1), F(1)) + F(turn)
    h = np.where(h < 0, h + F(1), h)
    h = np.where(h >= 1, h - F(1), h) * F(6)
    sector = np.floor(h)
    f = s * (h - sector)
    q, t, p = (F(1) - f) * most, (f + (F(1) - s)) * most, (F(1) - s) * most
    sector = sector.astype(int) % 6
    out = [np.choose(sector, choice) for choice in ((most, q, p, p, t, most), (t, most, most, q, p, p), (p, p, t, most, most, q))]
    return (np.clip(np.stack(out, 2), F(0), F(1)) * F(255.999)).astype(np.uint8)


CHANGES = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}


def grayscale(pixels):
    return grey(pixels).astype(np.uint8)[:, :, None].repeat(3, 2)


def ranges(settings):
    """color_jitter's settings to what the factors are drawn from."""
    found = {}
    for name in CHANGES:
        value, middle = settings.get(name, 0), 0 if name == "hue" else 1
        low, high = value if isinstance(value, tuple) else (middle - value, middle + value)
        found[name] = (low if name == "hue" else max(0, low), high)
    return found


def jitter(draw, settings):
    """The changes with their factors, in their order; None: nothing is done."""
    if draw.unit() >= settings.get("p", 1):
        return []
    order = list(CHANGES)
    for i in (3, 2, 1):
        j = draw.below(i + 1)
        order[i], order[j] = order[j], order[i]
    found = ranges(settings)
    factors = {name: draw.between(*found[name]) for name in CHANGES}
    still = {name: (0, 0) if name == "hue" else (1, 1) for name in CHANGES}
    return [(name, factors[name]) for name in order if found[name] != still[name]]


def by_vision(name, pixels, factor=None):
    """The same by torchvision."""
    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    if name == "grayscale":
        done = vision.rgb_to_grayscale(tensor, num_output_channels=3)
    else:
        done = getattr(vision, f"adjust_{name}")(tensor, factor)
    return done.permute(1, 2, 0).numpy()
