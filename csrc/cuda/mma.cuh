// What a warp does as one: copies to shared memory that do not wait, products of small matrices,
// and an exchange of registers. A lane of a warp is (g, t) = (lane / 4, lane % 4); the layouts of
// the fragments are those of the PTX ISA, "Matrix Fragments for mma.m16n8k8 / mma.m16n8k16".
#pragma once

#ifdef FASTNST_CUDA_EMULATOR
#include "emulator.h"
#else
#include <cstdint>

namespace fastnst::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kTensorCores = false;  // Turing multiplies neither bfloat16 nor TF32
#else
constexpr bool kTensorCores = true;
#endif

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// 16 bytes at `to` in shared memory: `bytes` of `from`, then zeros. Both are aligned to 16 bytes.
__device__ __forceinline__ void copy_async(void* to, const void* from, int bytes) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
#else
    if (bytes == 16) {
        *static_cast<uint4*>(to) = *static_cast<const uint4*>(from);
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            static_cast<unsigned short*>(to)[i] =
                2 * i < bytes ? static_cast<const unsigned short*>(from)[i] : 0;
        }
    }
#endif
}

// Closes a group of copies of this thread.
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for all groups of this thread but the last kPending.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements; lane 8 m + r gives the address of row r of matrix m. The
// lane gets elements 2t, 2t + 1 of row g of each; of its column g where kTransposed.
template <bool kTransposed>
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], const void* row) {
    if constexpr (kTransposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(shared_address(row))
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(shared_address(row))
                     : "memory");
    }
}

// sum (16x8) += a (16x16) b (16x8) of bfloat16, two to a register. The lane holds
//     a: rows g, g + 8 at k = 2t, 2t + 1; then the same at k + 8
//     b: column g at k = 2t, 2t + 1; then at k + 8
//     sum: row g at columns 2t, 2t + 1; then row g + 8
__device__ __forceinline__ void multiply_bfloat16(float (&sum)[4], const std::uint32_t (&a)[4],
                                                  const std::uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// x rounded to TF32 (10 bits of fraction), to nearest.
__device__ __forceinline__ std::uint32_t round_to_tf32(float x) {
    std::uint32_t bits = 0;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
#endif
    return bits;
}

// sum (16x8) += a (16x8) b (8x8) of TF32. The lane holds
//     a: rows g, g + 8 at k = t; then the same at k + 4
//     b: column g at k = t; then at k + 4
//     sum: as above
__device__ __forceinline__ void multiply_tf32(float (&sum)[4], const std::uint32_t (&a)[4],
                                              const std::uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// x of the lane whose number differs from this one's by the bits of `distance`.
template <class T>
__device__ __forceinline__ T exchange(T x, int distance) {
    return __shfl_xor_sync(0xffffffffu, x, distance);
}

}  // namespace fastnst::cuda
#endif
