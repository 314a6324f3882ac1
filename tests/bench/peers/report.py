# SPDX-License-Identifier: MIT
"""The results of images.py as a table, each line against its target, and as a plot (SVG)."""

from statistics import median
from xml.sax.saxutils import escape

VARIANTS = ("avx512", "avx2")
QUIET = 0.1  # of one core: what others may use
RATIOS = [  # part, words, the other's key or suffix (after a comma) of pfeed's, suffix of pfeed's, targets
    ("rows", "libjpeg-turbo decoding the same crops and nothing else", ", libjpeg-turbo alone", "", (0.92, 0.87)),
    ("rows", "torchvision v2", "torchvision v2", "", (1.65, 1.55)),
    ("rows", "OpenCV + numpy, without antialiasing", "OpenCV + numpy", "", (2.1, 1.95)),
    ("rows", "OpenCV + numpy, area", "OpenCV + numpy, area", "", None),
    ("rows", "Pillow + torchvision", "Pillow + torchvision", "", (2.3, 2.15)),
    ("rows", "DALI, CPU", "DALI CPU", "", (2.2, 2.05)),
    ("rows", "tf.data, with antialiasing", "tf.data, antialias", "", (2.6, 2.4)),
    ("rows", "tf.data, without", "tf.data, no antialias", "", None),
    ("rows", "FFCV, JPEG mode (its own re-encoding)", "FFCV, JPEG", "", (1.8, 1.7)),
    ("rows", "FFCV, RAW 256, against the `decoded` cache", "FFCV, RAW 256", ", decoded cache", (3.5, 3.0)),
    ("kernel", "kernel alone: Pillow + ToTensor + Normalize", "kernel: Pillow", ", kernel alone", (10, 6)),
    ("kernel", "kernel alone: OpenCV + numpy", "kernel: OpenCV + numpy", ", kernel alone", (10, 6)),
    ("kernel", "kernel alone: OpenCV + numpy, normalised in planes", "kernel: OpenCV + numpy, planes", ", kernel alone", None),
    ("kernel", "kernel alone: torchvision v2 uint8 resize + normalise", "kernel: torchvision v2", ", kernel alone", (4, 2.5)),
]
GAIN = 0.98
JOBS = {"1": 1.8, "2": 3.6, "4": 7}


def noise(figures):
    """Of one core, the median over what was measured."""
    others = figures.get("others", [])
    values = [value for each in others.values() for value in each] if isinstance(others, dict) else others
    return median(values) if values else 0


def judged(value, target, noisy):
    if value is None:
        return "not measured"
    if target is None:
        return f"{value:.2f}"
    return f"{value:.2f} {'held' if value >= target else 'MISSED'}{' ?' if noisy else ''}"


def ratio(figures, other, suffix, variant):
    us = figures.get("us", {})
    mine = f"pfeed {variant}{suffix}"
    theirs = f"pfeed {variant}{other}" if other.startswith(",") else other
    return median(us[theirs]) / median(us[mine]) if us.get(mine) and us.get(theirs) else None


def ratio_lines(results):
    """Cells: against, target, measured, target, measured."""
    for part, words, other, suffix, targets in RATIOS:
        figures = results.get(part)
        if not figures:
            continue
        cells = [words]
        for index, variant in enumerate(VARIANTS):
            target = targets[index] if targets else None
            cells += [
                f"{target:g}" if target else "",
                judged(ratio(figures, other, suffix, variant), target, noise(figures) > QUIET),
            ]
        yield cells


def gain_line(results):
    figures = results.get("workers")
    if figures:
        noisy = figures["gain_quiet"] < 5
        words = f"2 workers gain {figures['gain']:.3f}, 2 threads of a bare decode loop {figures['bare_gain']:.3f}"
        yield [words, f"{GAIN:g}", judged(figures["gain_ratio"], GAIN, noisy), "", ""]


def job_lines(results):
    figures = results.get("jobs")
    for trainers, target in JOBS.items() if figures else ():
        mine, theirs = (median(figures[side].get(trainers) or [0]) for side in ("pfeed", "DataLoader"))
        words = f"whole job, {trainers} trainer{'s' if trainers != '1' else ''}: {mine:,.0f} images/s; DataLoaders {theirs:,.0f}"
        value = mine / theirs if mine and theirs else None
        yield [words, f"{target:g}", judged(value, target, noise(figures) > QUIET), "", ""]


def us_lines(results):
    for part in ("rows", "kernel"):
        figures = results.get(part, {})
        for name, values in figures.get("us", {}).items():
            about = figures.get("about", {}).get(name)
            name += f": {about}" if about else ""
            if not name.startswith("pfeed") or ("kernel" in name) == (part == "kernel"):
                yield f"{part:6} {median(values):9.1f} us {min(values):9.1f} .. {max(values):9.1f}  {name}"


def remarks(results):
    for part in ("rows", "kernel", "jobs"):
        figures = results.get(part, {})
        for name, reason in figures.get("missing", {}).items():
            yield f"{part}: {name}: {reason}"
        if figures and noise(figures) > QUIET:
            yield f"{part}: others used {noise(figures):.2f} of a core meanwhile (?): measure again when the machine is quiet"
    if results.get("workers", {}).get("gain_quiet", 5) < 5:
        yield "workers: others used the machine (?): measure again when it is quiet"


def rows_of(results):
    head = [["against", "target", "AVX-512", "target", "AVX2"], ["---"] * 5]
    return [*head, *ratio_lines(results), *gain_line(results), *job_lines(results)]


def table(results):
    rows = rows_of(results)
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([*lines, "", *us_lines(results), "", *remarks(results)])


def fill(page, results, picture):
    """The page with the table between its marks, and the plot, if there is one."""
    before, mark, rest = page.partition("<!-- figures -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not mark or not end:
        raise SystemExit("the page has no line <!-- figures -->, or no <!-- end --> after it")
    lines = ["| " + " | ".join(row) + " |" for row in rows_of(results)]
    cpu = results.get("machine", {"cpu": "?", "cpus": "?"})
    lines += ["", f"{cpu['cpu']}, {cpu['cpus']} cores, {results.get('rows', {}).get('crops', 0)} crops of photographs."]
    lines += ["", *(f"- {remark}" for remark in remarks(results))]
    lines += ["", f"![CPU time of a row, and images a second]({picture})"] if picture else []
    return before + mark + "\n".join(lines) + "\n" + end + after


# ---- the plot ----------------------------------------------------------------------------------------------------------------

WIDTH, TOP, BAR, GAP = 880, 58, 18, 8
BOLD, END, MIDDLE = 'font-weight="bold"', 'text-anchor="end"', 'text-anchor="middle"'
MINE, OTHERS, PALE = "#1b6ca8", "#c9822b", "#8a8f98"


def text(x, y, words, size=13, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="#222" {more}>{escape(words)}</text>'


def box(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" rx="2" fill="{colour}"/>'


def row_bars(results):
    us = results.get("rows", {}).get("us", {})
    best = "pfeed avx512" if us.get("pfeed avx512") else "pfeed avx2"
    bars = [
        ("libjpeg-turbo, the same crops, nothing else", us.get(f"{best}, libjpeg-turbo alone"), PALE),
        ("pfeed", us.get(best), MINE),
        ("pfeed, decoded cache", us.get(f"{best}, decoded cache"), MINE),
    ]
    names = [
        "torchvision v2",
        "OpenCV + numpy",
        "Pillow + torchvision",
        "DALI CPU",
        "tf.data, antialias",
        "FFCV, JPEG",
        "FFCV, RAW 256",
    ]
    others = sorted((median(us[name]), name) for name in names if us.get(name))
    return [(name, median(values), colour) for name, values, colour in bars if values] + [
        (name, value, OTHERS) for value, name in others
    ]


def plot_rows(results):
    bars = row_bars(results)
    scale = 205 / max([value for _, value, _ in bars] or [1])
    yield text(20, 34, "CPU time of a row, one core, us", 15, BOLD)
    for index, (name, value, colour) in enumerate(bars):
        y = TOP + index * (BAR + GAP)
        yield text(272, y + 14, name if len(name) < 44 else "libjpeg-turbo, crops only", 12, END)
        yield box(280, y, value * scale, BAR, colour)
        yield text(285 + value * scale, y + 14, f"{value:,.0f}", 12)


def plot_jobs(results):
    jobs = results.get("jobs", {})
    sides = (("pfeed", MINE), ("DataLoader", OTHERS))
    values = {
        (side, trainers): median(jobs[side][trainers])
        for side, _ in sides
        for trainers in JOBS
        if jobs.get(side, {}).get(trainers)
    }
    scale = 205 / max(values.values(), default=1)
    left, bottom = 590, TOP + 240
    yield text(left - 20, 34, "Images a second, K trainers", 15, BOLD)
    for index, trainers in enumerate(JOBS):
        x = left + index * 92
        for offset, (side, colour) in enumerate(sides):
            value = values.get((side, trainers), 0)
            yield box(x + offset * 36, bottom - value * scale, 32, value * scale, colour)
            yield text(x + offset * 36 + 16, bottom - value * scale - 5, f"{value:,.0f}", 11, MIDDLE)
        yield text(x + 34, bottom + 18, f"K = {trainers}", 13, MIDDLE)
    for offset, (words, colour) in enumerate((("one pfeedd", MINE), ("PyTorch DataLoaders", OTHERS))):
        yield box(left + offset * 105, bottom + 32, 12, 12, colour)
        yield text(left + 18 + offset * 105, bottom + 43, words, 12)


def plot(results):
    height = max(TOP + len(row_bars(results)) * (BAR + GAP), TOP + 300) + 24
    cpu = results.get("machine", {})
    foot = f"{cpu.get('cpu', '?')}, {cpu.get('cpus', '?')} cores; RandomResizedCrop(224), flip, normalise, float16"
    head = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head}>',
        box(0, 0, WIDTH, height, "#ffffff"),
        *plot_rows(results),
        *plot_jobs(results),
        text(20, height - 10, foot, 11),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
