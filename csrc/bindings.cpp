// Python bindings: integers become pointers, the GIL is released, exceptions become ValueError
// (std::invalid_argument) or RuntimeError. No arithmetic, and no checks that Python has made.

#include "bindings.h"
#include "build_info.h"

namespace py = pybind11;
using namespace fastnst::bindings;

namespace {

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

void winograd_convolution(int dtype, int products, int tile, const Shape& shape,
                          const std::array<std::int64_t, 2>& rows, Address input,
                          Address input_positive, Address weights, bool transposed, Address bias,
                          Address mask, bool relu, int pooling, Address preactivation, Address out,
                          Address pooled, Address positive, int threads) {
    const auto [b, h, w, ci, co] = shape;
    const py::gil_scoped_release release;
    const auto type = [](int number) { return static_cast<fastnst::DType>(number); };
    fastnst::winograd_convolution({type(dtype),
                                   type(products),
                                   tile,
                                   b,
                                   h,
                                   w,
                                   ci,
                                   co,
                                   rows[0],
                                   rows[1],
                                   pointer<const void>(input),
                                   pointer<const std::uint16_t>(input_positive),
                                   pointer<const void>(weights),
                                   transposed,
                                   pointer<const float>(bias),
                                   pointer<const void>(mask),
                                   relu,
                                   static_cast<fastnst::Pooling>(pooling),
                                   pointer<void>(preactivation),
                                   pointer<void>(out),
                                   pointer<void>(pooled),
                                   pointer<std::uint16_t>(positive)},
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

void wait_briefly(bool briefly, int threads) {
    const py::gil_scoped_release release;
    fastnst::wait_briefly(briefly, threads);
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
        [](int products, const Shape& shape) {
            const auto [b, h, w, ci, co] = shape;
            return fastnst::winograd_tile(static_cast<fastnst::DType>(products), b, h, w, ci, co);
        },
        py::arg("products"), py::arg("shape"));
    m.def("winograd_weights", &winograd_weights, py::arg("tile"), py::arg("filters"),
          py::arg("channels_out"), py::arg("channels_in"), py::arg("gradient"), py::arg("dtype"),
          py::arg("out"), py::arg("threads"));
    m.def("winograd_convolution", &winograd_convolution, py::arg("dtype"), py::arg("products"),
          py::arg("tile"), py::arg("shape"), py::arg("rows"), py::arg("input"),
          py::arg("input_positive"), py::arg("weights"), py::arg("transposed"), py::arg("bias"),
          py::arg("mask"), py::arg("relu"), py::arg("pooling"), py::arg("preactivation"),
          py::arg("out"), py::arg("pooled"), py::arg("positive"), py::arg("threads"));
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
    m.def("can_wait_briefly", &fastnst::can_wait_briefly);
    m.def("wait_briefly", &wait_briefly, py::arg("briefly"), py::arg("threads"));
    m.def("compiled_isas", &fastnst::compiled_isas);
    m.def("available_isas", &fastnst::available_isas);
    m.def("selected_isa", &fastnst::selected_isa);
    m.def("multiplies_integers", &fastnst::multiplies_integers);
    m.def("convolves_bfloat16", &fastnst::convolves_bfloat16);
    m.def("bfloat16_is_quicker", &fastnst::bfloat16_is_quicker);
    m.def("force_isa", &fastnst::force_isa, py::arg("name"));
    m.def("build_info", &build_info);
    m.def("cuda_devices", &cuda_devices);
    bind_cuda(m);
}
