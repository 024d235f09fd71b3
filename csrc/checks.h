// Checks of what callers pass, for the CPU and the GPU alike.
#pragma once

#include <stdexcept>

#include "fastnst.h"

namespace fastnst {

inline void expect(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

inline void check_features(const Features& f) {
    expect(f.data != nullptr, "features: null pointer");
    expect(f.batch > 0 && f.channels > 0 && f.positions > 0,
           "features: batch, channels and positions must be at least 1");
    expect(f.dtype == DType::float32 || f.dtype == DType::bfloat16,
           "features: expected float32 or bfloat16");
}

}  // namespace fastnst
