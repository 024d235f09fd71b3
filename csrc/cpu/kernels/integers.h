// Integer arithmetic of sizes, for everything in csrc: here, because the kernels include nothing
// from outside their folder. In an anonymous namespace, so that no copy that was compiled for one
// instruction set can become everybody's.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#define FASTNST_HOST_AND_DEVICE __host__ __device__
#else
#define FASTNST_HOST_AND_DEVICE
#endif

namespace fastnst {
namespace {

// ceil(a / b) for a >= 0, b > 0.
FASTNST_HOST_AND_DEVICE inline constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// The smallest multiple of `step` that is not less than `value`.
FASTNST_HOST_AND_DEVICE inline constexpr int64_t round_up(int64_t value, int64_t step) {
    return ceil_div(value, step) * step;
}

}  // namespace
}  // namespace fastnst
