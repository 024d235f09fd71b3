// 2x2 pooling with stride 2 of channels_last features, on the way forward.
//
//   pool_features   average: the sum of a window in float, a quarter of it rounded once to T;
//                   max: its largest, NaN where there is one. Of an odd side the last is left out
//
// A thread has 16 bytes of channels of one window, all of whose loads are on their way at once. F
// and out are moved once each: 42 MB, 14 us at 3.0 TB/s, for relu1_2 at 512 x 512 in bfloat16.
// Blocks go along rows of windows, so that a thread's place takes 32-bit divisions only: of numbers
// of 64 bits they would take longer than the memory does.

#include "layers.cuh"

namespace fastnst {
namespace cuda {
namespace {

constexpr int kPoolThreads = 256;

template <class T, int kCount>
__global__ void __launch_bounds__(kPoolThreads)
    pool_features(const __grid_constant__ CudaPool layer) {
    using Values = Vector<T, kCount>;
    const auto columns = static_cast<unsigned>(layer.width / 2);
    const auto groups = static_cast<unsigned>(layer.channels / kCount);
    const auto rows = static_cast<unsigned>(layer.height / 2);
    const unsigned blocks = (columns * groups + kPoolThreads - 1) / kPoolThreads;  // of a row
    const unsigned line = blockIdx.x / blocks;
    const unsigned item = (blockIdx.x - line * blocks) * kPoolThreads + threadIdx.x;
    if (item >= columns * groups) return;
    const unsigned column = item / groups, sample = line / rows, row = line - sample * rows;
    const std::int64_t channel = static_cast<std::int64_t>(item - column * groups) * kCount;
    const std::int64_t next_row = layer.width * layer.channels;
    const T* window = static_cast<const T*>(layer.features) +
                      (sample * layer.height + 2 * row) * next_row + 2 * column * layer.channels +
                      channel;
    const Values f[4] = {*reinterpret_cast<const Values*>(window),
                         *reinterpret_cast<const Values*>(window + layer.channels),
                         *reinterpret_cast<const Values*>(window + next_row),
                         *reinterpret_cast<const Values*>(window + next_row + layer.channels)};
    Values out;
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
        float x[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) x[i] = to_float(f[i].at[c]);
        if (layer.pooling == Pooling::average) {
            out.at[c] = from_float<T>((0.0f + x[0] + x[1] + x[2] + x[3]) * 0.25f);
        } else {
            float most = x[0];
#pragma unroll
            for (int i = 1; i < 4; ++i) {  // the first of equals; NaN is larger than all
                if (x[i] > most || x[i] != x[i]) most = x[i];
            }
            out.at[c] = from_float<T>(most);
        }
    }
    *reinterpret_cast<Values*>(
        static_cast<T*>(layer.out) +
        (static_cast<std::int64_t>(line) * columns + column) * layer.channels + channel) = out;
}

template <class T>
void launch_pool(const CudaPool& layer, void* stream) {
    constexpr int most = 16 / static_cast<int>(sizeof(T));
    const bool vectors = layer.channels % most == 0;
    const std::int64_t items = layer.width / 2 * (layer.channels / (vectors ? most : 1));
    expect(items <= 0x7fffffff, "pool: a row is too long");
    for (const void* pointer : {layer.features, static_cast<const void*>(layer.out)})
        expect(!vectors || reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0,
               "pool: an address is not aligned to the channels of a thread");
    launch("pool_features", vectors ? pool_features<T, most> : pool_features<T, 1>,
           layer.batch * (layer.height / 2) * ceil_div(items, kPoolThreads), kPoolThreads, stream,
           layer);
}

}  // namespace
}  // namespace cuda

void cuda_pool(const CudaPool& layer, int device, void* stream) {
    using namespace cuda;
    expect(layer.batch > 0 && layer.height > 1 && layer.width > 1 && layer.channels > 0,
           "pool: expected a window of two rows and columns at least");
    expect(layer.features && layer.out, "pool: null pointer");
    expect(layer.pooling == Pooling::average || layer.pooling == Pooling::max,
           "pool: expected average or max");
    const DeviceGuard guard(device);
    if (layer.dtype == DType::bfloat16) {
        launch_pool<bf16>(layer, stream);
    } else {
        launch_pool<float>(layer, stream);
    }
}

}  // namespace fastnst
