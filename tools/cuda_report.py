"""What nvcc made of the CUDA kernels: registers, shared memory, spills, tensor-core instructions.

    python tools/cuda_report.py [--nvcc PATH] [--cuobjdump PATH] [--arch 90 ...]

Compiles csrc/cuda for every architecture of CMakeLists.txt that nvcc knows, with warnings as
errors; no GPU is needed. Fails if a kernel spills registers, or if one that multiplies by tensor
cores has no such instruction: HMMA in the machine code where cuobjdump is at hand, else mma.sync
in the PTX.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLAGS = ["-std=c++17", "-O3", "-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror"]
OLDEST_WITH_TENSOR_CORES = 80  # for bfloat16 and TF32
BY_TENSOR_CORES = re.compile(r"Bfloat16|Tf32")  # the kernels' template argument
ELEMENTS = {"Bfloat16": "BF16", "Tf32": "TF32"}  # as HMMA names what it multiplies


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture."""

    name: str
    arch: int
    registers: int
    shared: int
    spilled: int
    products: int  # tensor-core instructions

    @property
    def complaint(self) -> str | None:
        if self.spilled:
            return f"sm_{self.arch} {self.name}: {self.spilled} bytes of spills"
        claimed = BY_TENSOR_CORES.search(self.name) and self.arch >= OLDEST_WITH_TENSOR_CORES
        if bool(claimed) != bool(self.products):
            return f"sm_{self.arch} {self.name}: {self.products} tensor-core instructions"
        return None


def main() -> int:
    options = parse()
    nvcc = options.nvcc or shutil.which("nvcc")
    if nvcc is None:
        print("nvcc is not on the path: nothing was checked", file=sys.stderr)
        return 2
    dump = options.cuobjdump or find_cuobjdump(nvcc)
    sources = sorted((ROOT / "csrc/cuda").glob("*.cu"))
    jobs = list(product(sources, options.arch or architectures(nvcc)))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda job: compiled(nvcc, dump, job[0], job[1], Path(folder)), jobs)
        kernels = sorted((k for batch in found for k in batch), key=lambda k: (k.name, k.arch))
    column = "HMMA" if dump else "mma.sync (PTX)"
    print(f"{'kernel':<40} {'sm':>4} {'registers':>9} {'shared':>7} {'spilled':>7} {column:>5}")
    for k in kernels:
        figures = f"{k.registers:>9} {k.shared:>7} {k.spilled:>7} {k.products:>5}"
        print(f"{k.name:<40} {k.arch:>4} {figures}")
    complaints = [k.complaint for k in kernels if k.complaint]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    spilled = sum(k.spilled > 0 for k in kernels)
    seconds = time.monotonic() - began
    print(f"\n{len(kernels)} kernels, {spilled} of them spill; {seconds:.0f} s")
    return 1 if complaints or not kernels else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What nvcc made of the CUDA kernels.")
    parser.add_argument("--nvcc")
    parser.add_argument("--cuobjdump")
    parser.add_argument("--arch", type=int, nargs="+", help="such as 75 90; all by default")
    return parser.parse_args()


def find_cuobjdump(nvcc: str) -> str | None:
    """On the path, or beside the real nvcc."""
    beside = Path(nvcc).resolve().with_name("cuobjdump")
    return shutil.which("cuobjdump") or (str(beside) if beside.is_file() else None)


def architectures(nvcc: str) -> list[int]:
    """Those of CMakeLists.txt that this nvcc knows."""
    match = re.search(r"foreach\(arch ([\d ]+)\)", (ROOT / "CMakeLists.txt").read_text())
    assert match is not None
    known = output(nvcc, "--list-gpu-arch").split()
    return [int(arch) for arch in match[1].split() if f"compute_{arch}" in known]


def compiled(nvcc: str, dump: str | None, source: Path, arch: int, folder: Path) -> list[Kernel]:
    """The kernels of one source."""
    own = folder / f"{source.stem}.{arch}"  # nvcc leaves the PTX there, on the way to the cubin
    own.mkdir()
    cubin = own / "kernels.cubin"
    wanted = ["-Xptxas", "-v", "-keep", "--keep-dir", own, "-cubin", source, "-o", cubin]
    log = output(nvcc, *FLAGS, f"-arch=sm_{arch}", *wanted)
    if dump:
        counted = count(output(dump, "-sass", cubin), r"Function : (\S+)", r"\bHMMA\.\S+")
    else:
        ptx = (own / f"{source.stem}.ptx").read_text()
        counted = count(ptx, r"\.entry (\w+)\(", r"mma\.sync\S+")
    blocks = re.split(r"Compiling entry function '", log)[1:]
    return [kernel(block, arch, counted) for block in blocks]


def kernel(log: str, arch: int, counted: dict[str, list[str]]) -> Kernel:
    """One kernel from what ptxas says of it."""

    def number(pattern: str) -> int:
        return sum(map(int, re.findall(pattern, log)))

    mangled = log.split("'", 1)[0]
    name = readable(mangled)
    products = counted.get(mangled, [])
    for element, mnemonic in ELEMENTS.items():
        if element in name:
            products = [p for p in products if mnemonic in p.upper()]
    return Kernel(
        name,
        arch,
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes smem"),
        number(r"(\d+) bytes spill"),
        len(products),
    )


def readable(mangled: str) -> str:
    """gram_partials<Tf32, float, false>, from the symbol of a kernel of ours."""
    demangled = output("c++filt", mangled).strip() if shutil.which("c++filt") else mangled
    plain = re.sub(r"fastnst::|cuda::|\(anonymous namespace\)::|^void ", "", demangled)
    return plain.split("(")[0]


def count(text: str, start: str, instruction: str) -> dict[str, list[str]]:
    """The instructions that match, by function."""
    parts = re.split(start, text)
    return {
        name: re.findall(instruction, body)
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def output(*command: object) -> str:
    """Standard output and error of a command; ends the program if it fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
