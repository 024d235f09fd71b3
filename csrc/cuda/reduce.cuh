// Sums over the threads of a warp or block, in an order that no schedule changes.
#pragma once

#include "tile.cuh"

namespace fastnst::cuda {

// The sum of x over the lanes of the warp, the same bits in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += exchange(x, distance);
    return x;
}

// The sum of x over the block of kThreadCount threads, for thread 0; `memory` holds one value for
// each warp and is free again when all threads have passed the next barrier.
template <int kThreadCount>
__device__ __forceinline__ double block_sum(double x, double* memory) {
    const int thread = static_cast<int>(threadIdx.x);
    const double sum = warp_sum(x);
    if (thread % 32 == 0) memory[thread / 32] = sum;
    __syncthreads();
    double total = 0;
    if (thread == 0) {
        for (int warp = 0; warp < kThreadCount / 32; ++warp) total += memory[warp];
    }
    return total;
}

}  // namespace fastnst::cuda
