"""What the compiler made of the inner loops of csrc/cpu/kernels: products, loads, spills.

    python tools/kernel_report.py BUILD [--objdump PROGRAM]

BUILD is a folder that CMake has built in, for any processor (csrc/README.md has the commands).
Shown is, for each kernel with register tiles and each instruction set, the innermost loop with most
products: how many instructions multiply vectors and add, how many vectors they load, how many of
those come from the stack (sums that found no register), and the other instructions.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

KERNELS = {"winograd": "convolution", "gram": "Gram"}
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
TARGET = re.compile(r"(?:^|,\s*)([0-9a-f]+) <")
PRODUCT = re.compile(r"fmla|bfdot|vfmadd\w*ps|vdpbf16ps|vpdpwssd|mulps|fmul")
NO_PRODUCT = re.compile(r"patch|output_tile|weights|pack")  # transforms and copies
ARM = "aarch64-linux-gnu-objdump"


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where it may jump to, if it is a jump."""
        jumps = re.fullmatch(r"j\w+|b(\.\w+)?|cbn?z|tbn?z", self.name)
        found = TARGET.search(self.operands) if jumps else None
        return int(found.group(1), 16) if found else None

    @property
    def ends(self) -> bool:
        """Whether what follows it is not what comes next."""
        return re.fullmatch(r"jmp|b|br|retq?", self.name) is not None

    @property
    def is_product(self) -> bool:
        return PRODUCT.fullmatch(self.name) is not None

    @property
    def vectors_loaded(self) -> int:
        if self.name.startswith("ld"):  # arm64: one or two registers q, or elements of a v
            return len(re.findall(r"\b[qv]\d+", self.operands.split("[")[0]))
        # x86-64, where the target comes last: a source in memory, also of a product; in xmm
        # registers gcc counts too
        if re.fullmatch(r"vmovdqa|vmovq|vp(add|sub|min)\w*q", self.name):
            return 0
        is_vector = re.search(r"%[xyz]mm", self.operands) is not None
        from_memory = re.search(r"\([^)]*\)[^,]*,", self.operands) is not None
        return int(is_vector and from_memory)

    @property
    def is_from_stack(self) -> bool:
        return self.vectors_loaded > 0 and re.search(r"\[sp|%rsp", self.operands) is not None


@dataclass(frozen=True)
class Loop:
    """What a loop is made of."""

    products: int
    loads: int  # vectors
    spilled: int  # of the loads
    others: int  # instructions that neither multiply nor load a vector


def functions(listing: str) -> Iterator[tuple[str, list[Instruction]]]:
    """The functions of an objdump with their instructions."""
    name = ""
    code: list[Instruction] = []
    for line in listing.splitlines():
        if found := FUNCTION.match(line):
            if code:
                yield name, code
            name, code = found.group(1), []
        elif found := INSTRUCTION.match(line):
            code.append(Instruction(int(found.group(1), 16), found.group(2), found.group(3)))
    if code:
        yield name, code


def loops_of(code: list[Instruction]) -> Iterator[list[Instruction]]:
    """The loops of a function that multiply, without those that contain such a loop.

    A loop is what leads from the target of a jump back to that jump, wherever the compiler put it.
    """
    place = {one.address: i for i, one in enumerate(code)}
    before: list[list[int]] = [[] for _ in code]
    for i, one in enumerate(code):
        if one.target in place:
            before[place[one.target]].append(i)
        if not one.ends and i + 1 < len(code):
            before[i + 1].append(i)
    bodies: dict[int, set[int]] = {}
    for head, sources in enumerate(before):
        for source in (i for i in sources if i >= head):
            body, left = {head}, [source]
            while left:
                i = left.pop()
                if i not in body:
                    body.add(i)
                    left.extend(before[i])
            if head == 0 or 0 not in body:  # else the jump back closes no loop
                bodies.setdefault(head, set()).update(body)
    loops = {head: b for head, b in bodies.items() if any(code[i].is_product for i in b)}
    for head, body in loops.items():
        if not any(other in body for other in loops if other != head):
            yield [code[i] for i in sorted(body)]


def measure(loop: list[Instruction]) -> Loop:
    """Count the instructions of a loop."""
    return Loop(
        products=sum(one.is_product for one in loop),
        loads=sum(one.vectors_loaded for one in loop),
        spilled=sum(one.is_from_stack for one in loop),
        others=sum(not one.is_product and not one.vectors_loaded for one in loop),
    )


def main_loop(listing: str) -> Loop | None:
    """The loop with most products; of those the one with the fewest loads, then others.

    Loops of which less than a quarter are products do something else.
    """
    loops = [
        measure(loop)
        for name, code in functions(listing)
        if not NO_PRODUCT.search(name)
        for loop in loops_of(code)
    ]
    tiles = [loop for loop in loops if loop.others <= 3 * loop.products]
    return max(tiles, key=lambda loop: (loop.products, -loop.loads, -loop.others), default=None)


def disassemble(path: Path, objdump: str) -> str:
    """What objdump prints of an object file."""
    command = [objdump, "-dC", "--no-show-raw-insn", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode and shutil.which(ARM):  # not for this machine
        done = subprocess.run([ARM, *command[1:]], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path}: {objdump} cannot read it; name another one by --objdump")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--objdump", default="objdump")
    arguments = parser.parse_args()
    table = Table(
        "kernel", "for", "products", "loads", "products per load", "spilled", "others",
        box=None,
    )  # fmt: skip
    for kernel, what in KERNELS.items():
        paths = sorted(arguments.build.rglob(f"kernel_{kernel}_*.dir/**/{kernel}.cpp.o"))
        for path in paths:
            loop = main_loop(disassemble(path, arguments.objdump))
            isa = re.search(rf"kernel_{kernel}_(\w+)\.dir", str(path))
            if loop is None or isa is None:
                continue
            ratio = f"{loop.products / max(loop.loads, 1):.1f}"
            counts = (loop.products, loop.loads, ratio, loop.spilled, loop.others)
            table.add_row(what, isa.group(1), *map(str, counts))
    if not table.row_count:
        raise SystemExit(f"{arguments.build}: no objects of the kernels; build there first")
    Console().print(table)


if __name__ == "__main__":
    main()
