"""The count of instructions in inner loops, on listings in objdump's words."""

from __future__ import annotations

import pytest

from helpers.tools import load_tool

report = load_tool("kernel_report")

ARM = """
kernel.o:     file format elf64-littleaarch64

0000000000000000 <fastnst::neon::transform_patch(long)>:
   0:\tfmla\tv0.4s, v1.4s, v2.s[0]
   4:\tfmla\tv0.4s, v1.4s, v2.s[0]
   8:\tfmla\tv0.4s, v1.4s, v2.s[0]
   c:\tb.ne\t0 <fastnst::neon::transform_patch(long)>  // b.any

0000000000000010 <fastnst::neon::product_tile(long)>:
  10:\tldr\tq9, [x0]
  14:\tldp\tq1, q2, [x1]
  18:\tldr\tq3, [sp, #16]
  1c:\tprfm\tpldl1keep, [x2]
  20:\tfmla\tv0.4s, v1.4s, v3.s[0]
  24:\tfmla\tv4.4s, v2.4s, v3.s[0]
  28:\tadd\tx1, x1, #0x20
  2c:\tcbnz\tx3, 14 <fastnst::neon::product_tile(long)+0x4>
  30:\tb.gt\t10 <fastnst::neon::product_tile(long)>
  34:\tbl\t10 <fastnst::neon::product_tile(long)>
  38:\tret
"""

X86 = """
0000000000000000 <fastnst::avx2::product_tile(long)>:
   0:\tvbroadcastss (%rax),%ymm0
   4:\tvmovups (%rdi,%rcx,4),%ymm1
   8:\tvfmadd231ps %ymm0,%ymm1,%ymm2
   c:\tvfmadd231ps 0x20(%rsp),%ymm1,%ymm3
  10:\tvmovups %ymm3,(%rdx)
  14:\tadd    $0x20,%rdi
  18:\tjne    0 <fastnst::avx2::product_tile(long)>
  1c:\tret
"""


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        # the inner loop alone, and no call is a jump back
        (ARM, report.Loop(products=2, loads=3, spilled=1, others=3)),
        # a product may load what it multiplies; a store is no load
        (X86, report.Loop(products=2, loads=3, spilled=1, others=3)),
        ("", None),
    ],
    ids=["arm64", "x86-64", "nothing"],
)
def test_the_inner_loop_is_counted(listing: str, expected: object) -> None:
    assert report.main_loop(listing) == expected
