// Python bindings: integers become pointers, the GIL is released, exceptions become ValueError
// (std::invalid_argument) or RuntimeError. No arithmetic, and no checks that Python has made.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <tuple>
#include <vector>

#include "build_info.h"
#include "fastnst.h"

namespace py = pybind11;

namespace {

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

fastnst::Features features(const FeaturesTuple& t) {
    const auto [data, dtype, b, c, n, sb, sc, sn] = t;
    return {pointer<const void>(data), static_cast<fastnst::DType>(dtype), b, c, n, sb, sc, sn};
}

std::vector<fastnst::GramLayer> gram_layers(const std::vector<GramTuple>& tuples) {
    std::vector<fastnst::GramLayer> layers;
    for (const auto& [f, g, target, target_stride, difference, loss] : tuples) {
        layers.push_back({features(f), pointer<float>(g), pointer<const float>(target),
                          target_stride, pointer<float>(difference), pointer<float>(loss)});
    }
    return layers;
}

std::vector<fastnst::GradientLayer> gradient_layers(const std::vector<GradientTuple>& tuples) {
    std::vector<fastnst::GradientLayer> layers;
    for (const auto& [f, difference, scale, mask, accumulate, out, dtype, strides] : tuples) {
        layers.push_back({features(f), pointer<const float>(difference), scale, mask, accumulate,
                          pointer<void>(out), static_cast<fastnst::DType>(dtype), strides[0],
                          strides[1], strides[2]});
    }
    return layers;
}

void gram(const std::vector<GramTuple>& tuples, int threads) {
    const std::vector<fastnst::GramLayer> layers = gram_layers(tuples);
    const py::gil_scoped_release release;
    fastnst::gram(layers.data(), layers.size(), threads);
}

void gram_gradient(const std::vector<GradientTuple>& tuples, int threads) {
    const std::vector<fastnst::GradientLayer> layers = gradient_layers(tuples);
    const py::gil_scoped_release release;
    fastnst::gram_gradient(layers.data(), layers.size(), threads);
}

std::size_t cuda_gram_workspace(const std::vector<GramTuple>& tuples) {
    const std::vector<fastnst::GramLayer> layers = gram_layers(tuples);
    return fastnst::cuda_gram_workspace(layers.data(), layers.size());
}

std::size_t cuda_gram_gradient_workspace(const std::vector<GradientTuple>& tuples) {
    const std::vector<fastnst::GradientLayer> layers = gradient_layers(tuples);
    return fastnst::cuda_gram_gradient_workspace(layers.data(), layers.size());
}

void cuda_gram(const std::vector<GramTuple>& tuples, int precision, Address workspace,
               std::size_t bytes, int device, Address stream) {
    const std::vector<fastnst::GramLayer> layers = gram_layers(tuples);
    const py::gil_scoped_release release;
    fastnst::cuda_gram(layers.data(), layers.size(), static_cast<fastnst::CudaPrecision>(precision),
                       pointer<void>(workspace), bytes, device, pointer<void>(stream));
}

void cuda_gram_gradient(const std::vector<GradientTuple>& tuples, int precision, Address workspace,
                        std::size_t bytes, int device, Address stream) {
    const std::vector<fastnst::GradientLayer> layers = gradient_layers(tuples);
    const py::gil_scoped_release release;
    fastnst::cuda_gram_gradient(layers.data(), layers.size(),
                                static_cast<fastnst::CudaPrecision>(precision),
                                pointer<void>(workspace), bytes, device, pointer<void>(stream));
}

// (batch, height, width, channels_in, channels_out)
using Shape = std::array<std::int64_t, 5>;

void winograd_weights(int tile, Address filters, std::int64_t channels_out,
                      std::int64_t channels_in, bool gradient, int dtype, Address out,
                      int threads) {
    const py::gil_scoped_release release;
    fastnst::winograd_weights(tile, pointer<const float>(filters), channels_out, channels_in,
                              gradient, static_cast<fastnst::DType>(dtype), pointer<void>(out),
                              threads);
}

void winograd_convolution(int dtype, int tile, const Shape& shape, Address input,
                          Address input_positive, Address weights, bool transposed, Address bias,
                          Address mask, bool relu, int pooling, Address preactivation, Address out,
                          Address pooled, Address positive, int threads) {
    const auto [b, h, w, ci, co] = shape;
    const py::gil_scoped_release release;
    fastnst::winograd_convolution(
        {static_cast<fastnst::DType>(dtype), tile, b, h, w, ci, co, pointer<const void>(input),
         pointer<const std::uint16_t>(input_positive), pointer<const void>(weights), transposed,
         pointer<const float>(bias), pointer<const void>(mask), relu,
         static_cast<fastnst::Pooling>(pooling), pointer<void>(preactivation), pointer<void>(out),
         pointer<void>(pooled), pointer<std::uint16_t>(positive)},
        threads);
}

void image_convolution(int dtype, const Shape& shape, Address image, Address weights, Address bias,
                       Address preactivation, Address out, int threads) {
    const auto [b, h, w, ci, co] = shape;
    const py::gil_scoped_release release;
    fastnst::image_convolution(
        {b, h, w, co, pointer<const float>(image), pointer<const float>(weights),
         pointer<const float>(bias), static_cast<fastnst::DType>(dtype),
         pointer<void>(preactivation), pointer<void>(out)},
        threads);
}

void image_gradient(int dtype, const Shape& shape, Address gradient, Address weights, Address out,
                    int threads) {
    const auto [b, h, w, ci, co] = shape;
    const py::gil_scoped_release release;
    fastnst::image_gradient(
        {b, h, w, ci, static_cast<fastnst::DType>(dtype), pointer<const void>(gradient),
         pointer<const float>(weights), pointer<float>(out)},
        threads);
}

void unpool(int dtype, const Shape& shape, Address pooled, Address features, int pooling,
            bool relu_mask, Address out, int threads) {
    const auto [b, h, w, ci, co] = shape;
    const py::gil_scoped_release release;
    fastnst::unpool({static_cast<fastnst::DType>(dtype), b, h, w, co, pointer<const void>(pooled),
                     pointer<const void>(features), static_cast<fastnst::Pooling>(pooling),
                     relu_mask, pointer<void>(out)},
                    threads);
}

// (rows, length, values, scales)
using HistoryTuple = std::tuple<std::int64_t, std::int64_t, Address, Address>;

fastnst::History history(const HistoryTuple& t) {
    const auto [rows, length, values, scales] = t;
    return {rows, length, pointer<std::int8_t>(values), pointer<float>(scales)};
}

void history_store(const HistoryTuple& t, std::int64_t row, Address x, int threads) {
    const py::gil_scoped_release release;
    fastnst::history_store(history(t), row, pointer<const float>(x), threads);
}

void history_products(const HistoryTuple& t, std::int64_t used, Address x, Address products,
                      int threads) {
    const py::gil_scoped_release release;
    fastnst::history_products(history(t), used, pointer<const float>(x), pointer<double>(products),
                              threads);
}

void history_combination(const HistoryTuple& t, std::int64_t used, Address weights, Address out,
                         int threads) {
    const py::gil_scoped_release release;
    fastnst::history_combination(history(t), used, pointer<const float>(weights),
                                 pointer<float>(out), threads);
}

double sum(int what, Address x, Address y, std::int64_t length, int threads) {
    const py::gil_scoped_release release;
    return fastnst::sum(static_cast<fastnst::Sum>(what), pointer<const float>(x),
                        pointer<const float>(y), length, threads);
}

py::dict build_info() {
    py::dict info;
    info["version"] = FASTNST_VERSION;
    info["compiler"] = FASTNST_COMPILER;
    info["build_type"] = FASTNST_BUILD_TYPE;
    info["threads"] = FASTNST_THREADS;
    info["cpu_isas"] = fastnst::compiled_isas();
    info["cuda"] = FASTNST_CUDA_TOOLKIT;
    info["cuda_architectures"] = FASTNST_CUDA_ARCHITECTURES;
    info["sanitized"] = FASTNST_SANITIZED;
    return info;
}

py::dict cuda_devices() {
    fastnst::CudaDevices found;
    {
        const py::gil_scoped_release release;
        found = fastnst::cuda_devices();
    }
    py::list devices;
    for (const fastnst::CudaDevice& device : found.devices) {
        py::dict entry;
        entry["name"] = device.name;
        entry["capability"] = py::make_tuple(device.major, device.minor);
        entry["memory"] = device.memory;
        devices.append(entry);
    }
    py::dict result;
    result["devices"] = devices;
    result["reason"] = found.reason;
    return result;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "Compiled kernels of fastnst; see csrc/fastnst.h. Use fastnst.ops instead.";
    m.def("gram", &gram, py::arg("layers"), py::arg("threads"));
    m.def("gram_gradient", &gram_gradient, py::arg("layers"), py::arg("threads"));
    m.def(
        "winograd_tile",
        [](int dtype, const Shape& shape) {
            const auto [b, h, w, ci, co] = shape;
            return fastnst::winograd_tile(static_cast<fastnst::DType>(dtype), b, h, w, ci, co);
        },
        py::arg("dtype"), py::arg("shape"));
    m.def("winograd_weights", &winograd_weights, py::arg("tile"), py::arg("filters"),
          py::arg("channels_out"), py::arg("channels_in"), py::arg("gradient"), py::arg("dtype"),
          py::arg("out"), py::arg("threads"));
    m.def("winograd_convolution", &winograd_convolution, py::arg("dtype"), py::arg("tile"),
          py::arg("shape"), py::arg("input"), py::arg("input_positive"), py::arg("weights"),
          py::arg("transposed"), py::arg("bias"), py::arg("mask"), py::arg("relu"),
          py::arg("pooling"), py::arg("preactivation"), py::arg("out"), py::arg("pooled"),
          py::arg("positive"), py::arg("threads"));
    m.def("image_convolution", &image_convolution, py::arg("dtype"), py::arg("shape"),
          py::arg("image"), py::arg("weights"), py::arg("bias"), py::arg("preactivation"),
          py::arg("out"), py::arg("threads"));
    m.def("image_gradient", &image_gradient, py::arg("dtype"), py::arg("shape"),
          py::arg("gradient"), py::arg("weights"), py::arg("out"), py::arg("threads"));
    m.def("unpool", &unpool, py::arg("dtype"), py::arg("shape"), py::arg("pooled"),
          py::arg("features"), py::arg("pooling"), py::arg("relu_mask"), py::arg("out"),
          py::arg("threads"));
    m.def("history_store", &history_store, py::arg("history"), py::arg("row"), py::arg("x"),
          py::arg("threads"));
    m.def("history_products", &history_products, py::arg("history"), py::arg("used"), py::arg("x"),
          py::arg("products"), py::arg("threads"));
    m.def("history_combination", &history_combination, py::arg("history"), py::arg("used"),
          py::arg("weights"), py::arg("out"), py::arg("threads"));
    m.def("sum", &sum, py::arg("what"), py::arg("x"), py::arg("y"), py::arg("length"),
          py::arg("threads"));
    m.def("compiled_isas", &fastnst::compiled_isas);
    m.def("available_isas", &fastnst::available_isas);
    m.def("selected_isa", &fastnst::selected_isa);
    m.def("convolves_bfloat16", &fastnst::convolves_bfloat16);
    m.def("force_isa", &fastnst::force_isa, py::arg("name"));
    m.def("build_info", &build_info);
    m.def("cuda_devices", &cuda_devices);
    m.def("cuda_gram_workspace", &cuda_gram_workspace, py::arg("layers"));
    m.def("cuda_gram_gradient_workspace", &cuda_gram_gradient_workspace, py::arg("layers"));
    m.def("cuda_gram", &cuda_gram, py::arg("layers"), py::arg("precision"), py::arg("workspace"),
          py::arg("workspace_bytes"), py::arg("device"), py::arg("stream"));
    m.def("cuda_gram_gradient", &cuda_gram_gradient, py::arg("layers"), py::arg("precision"),
          py::arg("workspace"), py::arg("workspace_bytes"), py::arg("device"), py::arg("stream"));
}
