# SPDX-License-Identifier: MIT
"""The other loaders, from PyPI, each group in a virtual environment of its own below one folder. What is there already is left
alone; what cannot be had is named with the reason, and the others go on.

torch as PyPI has it brings CUDA's libraries, which nobody uses here: it does not load without them. Where
download.pytorch.org can be reached, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu and torch's +cpu version save 5
GB. FFCV has no wheel. Its source wants the headers of OpenCV and TurboJPEG: those of the system, or else Debian's packages,
fetched without root and unpacked beside the environment."""

import hashlib
import os
import subprocess
import sys

TORCH = ["torch==2.15.0", "torchvision==0.29.2", "numpy==2.4.6", "pillow==13.0.0", "opencv-python-headless==5.0.0.93"]
# Without --no-deps it would fetch a second OpenCV over the first.
FFCV = ["ffcv==1.0.2"]
FFCV_NEEDS = [
    "setuptools==84.2.1",
    "wheel",
    "numba==0.68.1",
    "pytorch_pfn_extras==0.9.0",
    "fastargs==1.2.0",
    "terminaltables==3.1.10",
    "assertpy==1.1",
    "psutil==7.2.2",
    "tqdm==4.70.1",
]
PLACES = {  # name of the environment: what is in it, what it takes
    "torch": (TORCH, "3 GB to download, 6 GB on disk"),
    "tensorflow": (["tensorflow-cpu==2.21.0"], "300 MB to download, 1.6 GB on disk"),
    "dali": (["nvidia-dali-cuda120==2.4.0", "numpy==2.4.6"], "500 MB to download, 1.1 GB on disk"),
}
DEBIAN = [
    "libopencv-core-dev",
    "libopencv-core406",
    "libopencv-imgproc-dev",
    "libopencv-imgproc406",
    "libtbb12",
    "libturbojpeg0-dev",
    "libturbojpeg0",
]
HEADERS = "-DOPENCV_ALL_HPP -include opencv2/core.hpp -include opencv2/imgproc.hpp"  # all that FFCV uses of opencv.hpp


class Missing(Exception):
    pass


def call(*words, **more):
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", **more.pop("env", {}))
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=env, **more)
    if result.returncode:
        lines = [line.strip() for line in result.stdout.splitlines() if "rror" in line] or result.stdout.splitlines() or ["?"]
        raise Missing(f"{' '.join(words[:4])} ... failed: {lines[-1][:200]}")
    return result.stdout


def python_of(folder, place):
    return os.path.join(folder, place, "bin", "python")


def once(folder, name, packages, install):
    """install(), unless it was done for these packages."""
    mark = os.path.join(folder, f"{name}.{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}")
    if os.path.exists(mark):
        return
    install()
    with open(mark, "w", encoding="utf-8") as file:
        print(*packages, sep="\n", file=file)


def environment(folder, place):
    packages, size = PLACES[place]
    python = python_of(folder, place)

    def install():
        print(f"{os.path.join(folder, place)}: installing {' '.join(packages)} from PyPI: {size}", flush=True)
        if not os.path.exists(python):
            call(
                "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable,
                "-m",
                "venv",
                os.path.join(folder, place),
            )
        call(python, "-m", "pip", "install", "-q", *packages)

    once(folder, place, packages, install)


def has_headers():
    return subprocess.run(["pkg-config", "--exists", "opencv4", "libturbojpeg"], check=False).returncode == 0


def unpack_headers(sysroot):
    """Debian's packages, and where pkg-config finds them."""
    os.makedirs(sysroot, exist_ok=True)
    call("apt-get", "download", *DEBIAN, cwd=sysroot)
    for name in os.listdir(sysroot):
        if name.endswith(".deb"):
            call("dpkg", "-x", name, ".", cwd=sysroot)
    for name, libraries, include in (
        ("opencv4", "-lopencv_imgproc -lopencv_core", "/opencv4"),
        ("libturbojpeg", "-lturbojpeg", ""),
    ):
        with open(os.path.join(sysroot, name + ".pc"), "w", encoding="utf-8") as file:
            file.write(
                f"Name: {name}\nDescription: unpacked\nVersion: 0\nLibs: -L{library_folder(sysroot)} {libraries}\n"
                f"Cflags: -I{sysroot}/usr/include{include}\n"
            )


def library_folder(sysroot):
    return os.path.join(sysroot, "usr/lib", call("gcc", "-print-multiarch").strip())


def ffcv(folder):
    """Into torch's environment."""
    python, sysroot = python_of(folder, "torch"), os.path.join(folder, "ffcv-headers")

    def install():
        print(f"{os.path.join(folder, 'torch')}: building {' '.join(FFCV)}", flush=True)
        env = {}
        if not has_headers():
            unpack_headers(sysroot)
            env = {
                "PKG_CONFIG_PATH": sysroot,
                "CFLAGS": HEADERS,
                "CXXFLAGS": HEADERS,
                "CC": "g++",
                "LDFLAGS": f"-Wl,--disable-new-dtags,-rpath,{library_folder(sysroot)}",
            }
        call(python, "-m", "pip", "install", "-q", *FFCV_NEEDS)
        call(python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--force-reinstall", *FFCV, env=env)
        call(python, "-c", "import ffcv")

    once(folder, "ffcv", FFCV + FFCV_NEEDS, install)


def need(folder, place):
    """place: of PLACES, or "ffcv". None, or why it is not there."""
    os.makedirs(folder, exist_ok=True)
    try:
        environment(folder, "torch" if place == "ffcv" else place)
        if place == "ffcv":
            ffcv(folder)
    except (Missing, OSError) as error:
        print(f"{place}: not installed: {error}", flush=True)
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(sum(need(os.path.abspath(sys.argv[1]), place) is not None for place in [*PLACES, "ffcv"]))
