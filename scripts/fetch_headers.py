#!/usr/bin/env python3
"""Puts the header files of Python packages into a folder, without downloading the libraries beside them.

    fetch_headers.py FOLDER nvidia-cublas==13.1.0.3 ...

A wheel is a zip archive: its table of contents and its headers are read by HTTP range requests from wherever pip finds it,
one megabyte instead of four hundred. Where the server knows no ranges, the whole wheel is downloaded and its headers kept.
"""
import glob
import io
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import zipfile

PIP = [sys.executable, "-m", "pip"]
HEADER = re.compile(r"(?:^|/)include/(.+\.(?:h|hpp|cuh))$")


class RemoteFile(io.RawIOBase):
    """A file on a server, read in pieces."""

    def __init__(self, url):
        super().__init__()
        self.url, self.at, self.fetched = url, 0, 0
        self.context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
        with self.request("bytes=-1") as answer:
            self.size = int(answer.headers["Content-Range"].rsplit("/", 1)[1])

    def request(self, wanted):
        answer = urllib.request.urlopen(urllib.request.Request(self.url, headers={"Range": wanted}), timeout=60, context=self.context)
        if answer.status != 206:
            answer.close()
            raise OSError(f"{self.url}: the server knows no ranges")
        return answer

    def seekable(self):
        return True

    def readable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=io.SEEK_SET):
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def readinto(self, buffer):
        count = min(len(buffer), self.size - self.at)
        if count <= 0:
            return 0
        with self.request(f"bytes={self.at}-{self.at + count - 1}") as answer:
            data = answer.read()
        buffer[:len(data)] = data
        self.at += len(data)
        self.fetched += len(data)
        return len(data)


def place_of(package):
    """The wheel's address, as pip resolves it (index, mirror, links)."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        subprocess.run([*PIP, "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:", "--target",
                        os.path.join(folder, "none"), "--report", report, package], check=True, stdout=sys.stderr)
        with open(report, encoding="utf-8") as text:
            return json.load(text)["install"][0]["download_info"]["url"]


def keep_headers(archive, folder):
    kept = 0
    for member in archive.namelist():
        if (match := HEADER.search(member)) and ".." not in match[1].split("/"):
            target = folder / match[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
            kept += 1
    if not kept:
        raise SystemExit(f"no header in {archive.filename}")
    return kept


def fetch(package, folder):
    try:
        url = place_of(package)
        if url.startswith("file:"):
            remote, source = None, urllib.request.url2pathname(url[len("file://"):])
        else:
            remote = RemoteFile(url)
            source = io.BufferedReader(remote, 1 << 16)
        with zipfile.ZipFile(source) as archive:
            kept = keep_headers(archive, folder)
        print(f"{package}: {kept} headers" + (f", {remote.fetched / 1e6:.1f} of {remote.size / 1e6:.0f} MB read" if remote else ""),
              file=sys.stderr)
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        print(f"{package}: {error}; downloading all of it (a few hundred MB)", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            subprocess.run([*PIP, "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", work, package], check=True,
                           stdout=sys.stderr)
            with zipfile.ZipFile(glob.glob(os.path.join(work, "*.whl"))[0]) as archive:
                keep_headers(archive, folder)


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for package in sys.argv[2:]:
        fetch(package, folder)


if __name__ == "__main__":
    main()
