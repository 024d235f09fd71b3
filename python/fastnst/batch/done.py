"""Whether a picture was made already: by a fingerprint of all that it depends on."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from fastnst.batch.jobs import Job
from fastnst.fingerprint import sha256_of_file
from fastnst.images.decode import SAMPLE_PREFIX
from fastnst.network.weights import BUILT_IN
from fastnst.settings.settings import INITS

PLACES = ("engine", "provider", "device")  # settings that say where to compute, not what


def is_done(job: Job, journal: Mapping[str, str]) -> bool:
    """Whether the output is there and was made from the same pictures with the same settings."""
    there = os.path.isfile(job.output)  # noqa: PTH113 - False for what no system takes
    return there and journal.get(str(job.output.resolve())) == fingerprint(job)


def fingerprint(job: Job) -> str | None:
    """SHA-256 of what a job's picture depends on; None if a picture is missing.

    Settings that say where to compute, and not what, do not count.
    """
    settings = job.settings.to_dict()
    for name in PLACES:
        settings.pop(name)
    sources = [job.content, *job.styles, job.settings.init, job.settings.weights]
    try:
        digests = [_file_digest(source) for source in sources]
    except OSError:
        return None
    return hashlib.sha256(json.dumps([settings, digests]).encode()).hexdigest()


def _file_digest(source: str) -> str:
    """SHA-256 of a file's bytes; of what is built in, its name."""
    if source.startswith(SAMPLE_PREFIX) or source in INITS or source in BUILT_IN:
        return source
    stat = Path(source).stat()
    return _digest(source, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=10_000)
def _digest(path: str, _modified: int, _size: int) -> str:
    return sha256_of_file(Path(path))
