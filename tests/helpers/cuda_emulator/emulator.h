// Runs the sources of csrc/cuda on a CPU: what they need of CUDA, with one fibre per thread of a
// block, the blocks one after the other. Warp-wide instructions wait for all 32 lanes and follow
// the layouts of the PTX ISA element by element. It is stricter than a GPU: see emulator.cpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

struct Index {
    unsigned x;
};
extern Index threadIdx, blockIdx;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

void __syncthreads();

namespace emulator {

void* shared(std::size_t bytes);  // the block's memory; filled with NaN at its start
void run(const char* name, std::int64_t blocks, int threads, const std::function<void()>& kernel);

struct Matrices {
    std::uint32_t* to;
    const void* row;
    bool transposed;
};
struct Product {
    float* sum;
    const std::uint32_t *a, *b;
};
struct Exchange {
    void* to;
    const void* from;
    std::size_t bytes;
    int distance;
};
void load_matrices(Matrices lane);
void exchange(Exchange lane);
void multiply_bfloat16(Product lane);
void multiply_tf32(Product lane);

void copy_async(void* to, const void* from, int bytes);
void commit_copies();
void wait_for_copies(int pending);

bool has_tensor_cores();

}  // namespace emulator

namespace fastnst::cuda {

constexpr bool kTensorCores = true;

template <class Storage>
Storage& shared_memory() {
    return *static_cast<Storage*>(emulator::shared(sizeof(Storage)));
}

class DeviceGuard {
  public:
    explicit DeviceGuard(int) {}
    ~DeviceGuard() {}  // as in gpu.cuh, so that a guard counts as used
};

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int threads,
            void*, const Arguments&... arguments) {
    emulator::run(name, blocks, threads, [&] { kernel(arguments...); });
}

template <class... Parameters>
bool compiled_for_tensor_cores(const char*, void (*)(Parameters...)) {
    return emulator::has_tensor_cores();
}

// What the tests leave out to see that it is missed.
#ifdef EMULATOR_WITHOUT_BARRIERS
#define __syncthreads() static_cast<void>(0)
#endif
#ifdef EMULATOR_WITHOUT_WAITS
constexpr bool kWaits = false;
#else
constexpr bool kWaits = true;
#endif

inline void copy_async(void* to, const void* from, int bytes) {
    emulator::copy_async(to, from, bytes);
}
inline void commit_copies() {
    emulator::commit_copies();
}
template <int kPending>
void wait_for_copies() {
    if (kWaits) emulator::wait_for_copies(kPending);
}

template <bool kTransposed>
void load_matrices(std::uint32_t (&to)[4], const void* row) {
    emulator::load_matrices({to, row, kTransposed});
}
inline void multiply_bfloat16(float (&sum)[4], const std::uint32_t (&a)[4],
                              const std::uint32_t (&b)[2]) {
    emulator::multiply_bfloat16({sum, a, b});
}
inline void multiply_tf32(float (&sum)[4], const std::uint32_t (&a)[4],
                          const std::uint32_t (&b)[2]) {
    emulator::multiply_tf32({sum, a, b});
}
std::uint32_t round_to_tf32(float x);

template <class T>
T exchange(T x, int distance) {
    T other;
    emulator::exchange({&other, &x, sizeof(T), distance});
    return other;
}

}  // namespace fastnst::cuda
