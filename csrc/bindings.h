// How tensors come from Python: tuples of integers, of which addresses become pointers.
#pragma once

#include <array>
#include <cstdint>
#include <tuple>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "fastnst.h"

namespace fastnst::bindings {

using Address = std::uintptr_t;
// (data, dtype, batch, channels, positions, batch_stride, channel_stride, position_stride)
using FeaturesTuple = std::tuple<Address, int, std::int64_t, std::int64_t, std::int64_t,
                                 std::int64_t, std::int64_t, std::int64_t>;
// (features, gram, target, target_batch_stride, difference, loss)
using GramTuple = std::tuple<FeaturesTuple, Address, Address, std::int64_t, Address, Address>;
// (features, difference, scale, relu_mask, accumulate, out, out_dtype, out_strides)
using GradientTuple = std::tuple<FeaturesTuple, Address, float, bool, bool, Address, int,
                                 std::array<std::int64_t, 3>>;

template <class T>
T* pointer(Address address) {
    return reinterpret_cast<T*>(address);
}

inline fastnst::Features features(const FeaturesTuple& t) {
    const auto [data, dtype, b, c, n, sb, sc, sn] = t;
    return {pointer<const void>(data), static_cast<fastnst::DType>(dtype), b, c, n, sb, sc, sn};
}

inline std::vector<fastnst::GramLayer> gram_layers(const std::vector<GramTuple>& tuples) {
    std::vector<fastnst::GramLayer> layers;
    for (const auto& [f, g, target, target_stride, difference, loss] : tuples) {
        layers.push_back({features(f), pointer<float>(g), pointer<const float>(target),
                          target_stride, pointer<float>(difference), pointer<float>(loss)});
    }
    return layers;
}

inline std::vector<fastnst::GradientLayer> gradient_layers(
    const std::vector<GradientTuple>& tuples) {
    std::vector<fastnst::GradientLayer> layers;
    for (const auto& [f, difference, scale, mask, accumulate, out, dtype, strides] : tuples) {
        layers.push_back({features(f), pointer<const float>(difference), scale, mask, accumulate,
                          pointer<void>(out), static_cast<fastnst::DType>(dtype), strides[0],
                          strides[1], strides[2]});
    }
    return layers;
}

// (rows, length, values, scales)
using HistoryTuple = std::tuple<std::int64_t, std::int64_t, Address, Address>;

inline fastnst::History history(const HistoryTuple& t) {
    const auto [rows, length, values, scales] = t;
    return {rows, length, pointer<std::int8_t>(values), pointer<float>(scales)};
}

void bind_cuda(pybind11::module_& m);

}  // namespace fastnst::bindings
