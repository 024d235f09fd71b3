// Python bindings of the GPU's functions. An error of the CUDA runtime keeps a type of its own, so
// that nobody takes it for a build that cannot run.

#include "bindings.h"
#include "cuda/device_error.h"

namespace py = pybind11;

namespace fastnst::bindings {

namespace {

// (symmetric, dtype) and (symmetric, masked_sum), one for each layer or none at all
using GramExtra = std::tuple<Address, int>;
using GradientExtra = std::tuple<Address, bool>;
using Sizes = std::array<std::int64_t, 4>;  // batch, height, width, channels

std::size_t gram_workspace(const std::vector<GramTuple>& tuples) {
    const std::vector<GramLayer> layers = gram_layers(tuples);
    return cuda_gram_workspace(layers.data(), layers.size());
}

std::size_t gram_gradient_workspace(const std::vector<GradientTuple>& tuples) {
    const std::vector<GradientLayer> layers = gradient_layers(tuples);
    return cuda_gram_gradient_workspace(layers.data(), layers.size());
}

void gram(const std::vector<GramTuple>& tuples, int precision, Address workspace, std::size_t bytes,
          int device, Address stream, const std::vector<GramExtra>& given) {
    const std::vector<GramLayer> layers = gram_layers(tuples);
    std::vector<CudaGramExtra> extra;
    for (const auto& [symmetric, dtype] : given)
        extra.push_back({pointer<void>(symmetric), static_cast<DType>(dtype)});
    if (!extra.empty() && extra.size() != layers.size())
        throw std::invalid_argument("extras: expected one for each layer");
    const py::gil_scoped_release release;
    cuda_gram(layers.data(), extra.empty() ? nullptr : extra.data(), layers.size(),
              static_cast<CudaPrecision>(precision), pointer<void>(workspace), bytes, device,
              pointer<void>(stream));
}

void gram_gradient(const std::vector<GradientTuple>& tuples, int precision, Address workspace,
                   std::size_t bytes, int device, Address stream,
                   const std::vector<GradientExtra>& given) {
    const std::vector<GradientLayer> layers = gradient_layers(tuples);
    std::vector<CudaGradientExtra> extra;
    for (const auto& [symmetric, masked_sum] : given)
        extra.push_back({pointer<const void>(symmetric), masked_sum});
    if (!extra.empty() && extra.size() != layers.size())
        throw std::invalid_argument("extras: expected one for each layer");
    const py::gil_scoped_release release;
    cuda_gram_gradient(layers.data(), extra.empty() ? nullptr : extra.data(), layers.size(),
                       static_cast<CudaPrecision>(precision), pointer<void>(workspace), bytes,
                       device, pointer<void>(stream));
}

int symmetric_dtype(int features, int precision, int device) {
    return static_cast<int>(cuda_symmetric_dtype(static_cast<DType>(features),
                                                 static_cast<CudaPrecision>(precision), device));
}

void history_store(const HistoryTuple& rows, Address slot, Address x, int device, Address stream) {
    const py::gil_scoped_release release;
    cuda_history_store(history(rows), pointer<const std::int64_t>(slot), pointer<const float>(x),
                       device, pointer<void>(stream));
}

void history_products(const HistoryTuple& rows, Address used, Address x, Address partials,
                      int device, Address stream) {
    const py::gil_scoped_release release;
    cuda_history_products(history(rows), pointer<const std::int64_t>(used), pointer<const float>(x),
                          pointer<float>(partials), device, pointer<void>(stream));
}

void history_combination(const HistoryTuple& rows, Address used, Address weights, float sign,
                         Address base, Address outer, Address out, Address squares, int device,
                         Address stream) {
    const py::gil_scoped_release release;
    cuda_history_combination(history(rows), pointer<const std::int64_t>(used),
                             pointer<const float>(weights), sign, pointer<const float>(base),
                             pointer<const double>(outer), pointer<float>(out),
                             pointer<double>(squares), device, pointer<void>(stream));
}

// (dtype, sizes, features, incoming, pooling, relu_mask, target, scale, squares, out)
using LayerTuple =
    std::tuple<int, Sizes, Address, Address, int, bool, Address, float, Address, Address>;

CudaLayerGradient layer_of(const LayerTuple& t) {
    const auto [dtype, sizes, features, incoming, pooling, mask, target, scale, squares, out] = t;
    const auto [b, h, w, c] = sizes;
    return {static_cast<DType>(dtype),
            b,
            h,
            w,
            c,
            pointer<const void>(features),
            pointer<const void>(incoming),
            static_cast<Pooling>(pooling),
            mask,
            pointer<const void>(target),
            scale,
            pointer<double>(squares),
            pointer<void>(out)};
}

void layer_gradient(const LayerTuple& layer, int device, Address stream) {
    const py::gil_scoped_release release;
    cuda_layer_gradient(layer_of(layer), device, pointer<void>(stream));
}

void pool(int dtype, const Sizes& sizes, Address features, int pooling, Address out, int device,
          Address stream) {
    const auto [b, h, w, c] = sizes;
    const py::gil_scoped_release release;
    cuda_pool({static_cast<DType>(dtype), b, h, w, c, pointer<const void>(features),
               static_cast<Pooling>(pooling), pointer<void>(out)},
              device, pointer<void>(stream));
}

// (sums, count, divisor, value, offset, factor)
using LossTuple = std::tuple<Address, std::int64_t, double, Address, double, double>;

void losses(const std::vector<LossTuple>& tuples, Address out, int device, Address stream) {
    std::vector<CudaLossTerm> terms;
    for (const auto& [sums, count, divisor, value, offset, factor] : tuples) {
        terms.push_back({pointer<const double>(sums), count, divisor, pointer<const float>(value),
                         offset, factor});
    }
    const py::gil_scoped_release release;
    cuda_losses(terms.data(), terms.size(), pointer<float>(out), device, pointer<void>(stream));
}

void image_features(const Sizes& sizes, Address image, const std::array<float, 3>& mean,
                    const std::array<float, 3>& deviation, Address weights, Address bias,
                    Address parts, bool relu, bool replicate, int dtype, Address out, int device,
                    Address stream) {
    const auto [b, h, w, c] = sizes;
    const py::gil_scoped_release release;
    cuda_image_features({b,
                         h,
                         w,
                         c,
                         pointer<const float>(image),
                         {mean[0], mean[1], mean[2]},
                         {deviation[0], deviation[1], deviation[2]},
                         pointer<const float>(weights),
                         pointer<const float>(bias),
                         pointer<const void>(parts),
                         relu,
                         replicate,
                         static_cast<DType>(dtype),
                         pointer<void>(out)},
                        device, pointer<void>(stream));
}

void image_gradient(const Sizes& sizes, int dtype, Address gradient, Address weights, Address parts,
                    Address out, int device, Address stream) {
    const auto [b, h, w, c] = sizes;
    const py::gil_scoped_release release;
    cuda_image_gradient(
        {b, h, w, c, static_cast<DType>(dtype), pointer<const void>(gradient),
         pointer<const float>(weights), pointer<const void>(parts), pointer<float>(out)},
        device, pointer<void>(stream));
}

CudaSolver solver_of(const py::dict& t) {
    const auto address = [&](const char* name) { return t[name].cast<Address>(); };
    const auto floats = [&](const char* name) { return pointer<float>(address(name)); };
    const auto doubles = [&](const char* name) { return pointer<double>(address(name)); };
    CudaSolver solver{};
    solver.length = t["length"].cast<std::int64_t>();
    solver.terms = t["terms"].cast<std::int64_t>();
    solver.capacity = t["capacity"].cast<std::int64_t>();
    solver.low = t["low"].cast<float>();
    solver.high = t["high"].cast<float>();
    solver.first_step = t["first_step"].cast<double>();
    solver.longest_step = t["longest_step"].cast<double>();
    solver.least_curvature = t["least_curvature"].cast<double>();
    solver.shrinkage = t["shrinkage"].cast<double>();
    solver.found = floats("found");
    solver.losses = floats("losses");
    solver.image = floats("image");
    solver.best = floats("best");
    solver.gradient = floats("gradient");
    solver.step = floats("step");
    solver.change = floats("change");
    solver.direction = floats("direction");
    solver.s = history(t["s"].cast<HistoryTuple>());
    solver.y = history(t["y"].cast<HistoryTuple>());
    solver.ring_images = floats("ring_images");
    solver.ring_rows = doubles("ring_rows");
    solver.row = doubles("row");
    solver.numbers = doubles("numbers");
    solver.flags = pointer<std::uint8_t>(address("flags"));
    solver.counters = pointer<std::int64_t>(address("counters"));
    solver.inverse = doubles("inverse");
    solver.diagonal = doubles("diagonal");
    solver.products = doubles("products");
    solver.u = doubles("u");
    solver.scratch = doubles("scratch");
    solver.weights = floats("weights");
    solver.sums = doubles("sums");
    solver.partials = floats("partials");
    return solver;
}

}  // namespace

void bind_cuda(py::module_& m) {
    py::register_exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError);
    m.def("cuda_gram_workspace", &gram_workspace, py::arg("layers"));
    m.def("cuda_gram_gradient_workspace", &gram_gradient_workspace, py::arg("layers"));
    m.def("cuda_gram", &gram, py::arg("layers"), py::arg("precision"), py::arg("workspace"),
          py::arg("workspace_bytes"), py::arg("device"), py::arg("stream"),
          py::arg("extras") = std::vector<GramExtra>());
    m.def("cuda_gram_gradient", &gram_gradient, py::arg("layers"), py::arg("precision"),
          py::arg("workspace"), py::arg("workspace_bytes"), py::arg("device"), py::arg("stream"),
          py::arg("extras") = std::vector<GradientExtra>());
    m.def("cuda_symmetric_dtype", &symmetric_dtype, py::arg("features"), py::arg("precision"),
          py::arg("device"));
    m.def("cuda_history_store", &history_store, py::arg("history"), py::arg("slot"), py::arg("x"),
          py::arg("device"), py::arg("stream"));
    m.def("cuda_history_products", &history_products, py::arg("history"), py::arg("used"),
          py::arg("x"), py::arg("partials"), py::arg("device"), py::arg("stream"));
    m.def("cuda_history_combination", &history_combination, py::arg("history"), py::arg("used"),
          py::arg("weights"), py::arg("sign"), py::arg("base"), py::arg("outer"), py::arg("out"),
          py::arg("squares"), py::arg("device"), py::arg("stream"));
    m.def(
        "cuda_layer_gradient_blocks",
        [](const LayerTuple& layer) { return cuda_layer_gradient_blocks(layer_of(layer)); },
        py::arg("layer"));
    m.def("cuda_layer_gradient", &layer_gradient, py::arg("layer"), py::arg("device"),
          py::arg("stream"));
    m.def("cuda_pool", &pool, py::arg("dtype"), py::arg("sizes"), py::arg("features"),
          py::arg("pooling"), py::arg("out"), py::arg("device"), py::arg("stream"));
    m.def("cuda_losses", &losses, py::arg("terms"), py::arg("losses"), py::arg("device"),
          py::arg("stream"));
    m.def("cuda_image_features", &image_features, py::arg("sizes"), py::arg("image"),
          py::arg("mean"), py::arg("deviation"), py::arg("weights"), py::arg("bias"),
          py::arg("parts"), py::arg("relu"), py::arg("replicate"), py::arg("dtype"), py::arg("out"),
          py::arg("device"), py::arg("stream"));
    m.def("cuda_image_gradient", &image_gradient, py::arg("sizes"), py::arg("dtype"),
          py::arg("gradient"), py::arg("weights"), py::arg("parts"), py::arg("out"),
          py::arg("device"), py::arg("stream"));
    m.def(
        "cuda_solver_take",
        [](const py::dict& described, int device, Address stream) {
            const CudaSolver solver = solver_of(described);
            const py::gil_scoped_release release;  // a full queue of launches makes this wait
            cuda_solver_take(solver, device, pointer<void>(stream));
        },
        py::arg("solver"), py::arg("device"), py::arg("stream"));
    m.def(
        "cuda_solver_first",
        [](const py::dict& described, bool scaled, int device, Address stream) {
            const CudaSolver solver = solver_of(described);
            const py::gil_scoped_release release;  // a full queue of launches makes this wait
            cuda_solver_first(solver, scaled, device, pointer<void>(stream));
        },
        py::arg("solver"), py::arg("scaled"), py::arg("device"), py::arg("stream"));
    m.def(
        "cuda_solver_second",
        [](const py::dict& described, int device, Address stream) {
            const CudaSolver solver = solver_of(described);
            const py::gil_scoped_release release;  // a full queue of launches makes this wait
            cuda_solver_second(solver, device, pointer<void>(stream));
        },
        py::arg("solver"), py::arg("device"), py::arg("stream"));
}

}  // namespace fastnst::bindings
