"""Whether a picture was made already: by a fingerprint of all that it depends on."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastnst.batch.jobs import Job
from fastnst.fingerprint import sha256_of_file
from fastnst.images.decode import SAMPLE_PREFIX
from fastnst.network.weights import BUILT_IN
from fastnst.settings.settings import INITS

BITS = 8  # of a channel, unless something else is asked for
PLACES = ("engine", "provider", "device")  # settings that say where to compute, not what


def is_done(job: Job, journal: Mapping[str, str], bits: int = BITS, pyramid: bool = False) -> bool:
    """Whether the output is there, made from the same pictures with the same settings.

    Args:
        job: What is to be made.
        journal: What was made, by output.
        bits: Of a channel of the file that is to be made.
        pyramid: Whether it is to have smaller copies of the picture.
    """
    there = os.path.isfile(job.output)  # noqa: PTH113 - False for what no system takes
    made_from = fingerprint(job, bits, pyramid) if there else None
    return made_from is not None and journal.get(str(job.output.resolve())) == made_from


def fingerprint(job: Job, bits: int = BITS, pyramid: bool = False) -> str | None:
    """SHA-256 of what a job's file depends on; None if a picture is missing.

    Settings that say where to compute, and not what, do not count.
    """
    settings = job.settings.to_dict()
    for name in (*PLACES, "init", "weights"):  # the last two by their contents, below
        settings.pop(name)
    its = job.settings
    try:
        digests = [
            *(_file_digest(picture) for picture in (job.content, *job.styles)),
            its.init if its.init in INITS else _file_digest(its.init),
            its.weights if its.weights in BUILT_IN else _file_digest(its.weights),
        ]
    except OSError:
        return None
    made_from: list[Any] = [settings, digests]
    if (bits, pyramid) != (BITS, False):
        made_from.append([bits, pyramid])
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def _file_digest(source: str) -> str:
    """SHA-256 of a file's bytes; of a built-in picture, its name."""
    if source.startswith(SAMPLE_PREFIX):
        return source
    stat = Path(source).stat()
    return _digest(source, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=10_000)
def _digest(path: str, _modified: int, _size: int) -> str:
    return sha256_of_file(Path(path))
