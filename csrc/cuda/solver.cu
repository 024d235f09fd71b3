// An iteration of L-BFGS on a GPU, about an evaluation; all formulas stand in
// python/fastnst/solvers/device/lbfgs.py, whose operators are these kernels' twin. Nothing is
// fetched and no branch is the host's, so that all of it can be recorded.
//
//   solver_change   y = g - last, last = g, and the sums |g|_1, s.y, y.y, s.s by block
//   solver_judge    one block: is the evaluation finite, is the pair taken, what are gamma and the
//                   step scale; after a failure all pairs are forgotten
//   solver_keep     the best picture, the ring buffer's picture, the pair in eight bits
//   solver_first    one block: S g from its parts, R^-1 with the new pair, u = R^-1 S g
//   solver_second   one block: Y z from its parts, t = R^-T (D u - Y z)
//   solver_move     the step is cut, made, projected to the bounds, and measured
//
// and between them the two passes of history.cu: ten launches in all.

#include "solver.cuh"

namespace fastnst {
namespace cuda {
namespace {

constexpr int kJudgeThreads = 256;
constexpr int kPairThreads = 512;
constexpr int kSums = 4;  // |g|_1, s.y, y.y, s.s

std::int64_t solver_blocks(const CudaSolver& solver) {
    return chunks_of(solver.length) * (kChunk / kSolverBlock);
}

__device__ __forceinline__ std::int64_t blocks_of(const CudaSolver& solver) {
    return ceil_div(solver.length, kChunk) * (kChunk / kSolverBlock);
}

__device__ __forceinline__ bool is_finite(double x) {
    return x - x == 0;
}

// Whether the flag of a bool tensor is set.
__device__ __forceinline__ bool is_set(const CudaSolver& solver, SolverFlag flag) {
    return solver.flags[static_cast<int>(flag)] != 0;
}

__device__ __forceinline__ std::int64_t first_of_thread() {
    return (blockIdx.x * static_cast<std::int64_t>(kSolverThreads) + threadIdx.x) * 4;
}

struct ChangeMemory {
    double sums[kSums][kSolverThreads / 32];
};

__global__ void __launch_bounds__(kSolverThreads, 4) solver_change(const CudaSolver solver) {
    auto& memory = shared_memory<ChangeMemory>();
    const std::int64_t n = first_of_thread();
    float g[4], last[4], s[4], y[4];
    load_four(solver.found, n, solver.length, g);
    load_four(solver.gradient, n, solver.length, last);
    load_four(solver.step, n, solver.length, s);
    double sums[kSums] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        y[i] = g[i] - last[i];
        const double step = static_cast<double>(s[i]), change = static_cast<double>(y[i]);
        sums[0] += static_cast<double>(fabsf(g[i]));
        sums[1] += step * change;
        sums[2] += change * change;
        sums[3] += step * step;
    }
    store_four(solver.gradient, n, solver.length, g);
    store_four(solver.change, n, solver.length, y);
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
        const double sum = block_sum<kSolverThreads>(sums[i], memory.sums[i]);
        if (threadIdx.x == 0) solver.sums[blockIdx.x * static_cast<std::int64_t>(kSums) + i] = sum;
    }
}

struct JudgeMemory {
    double sums[kSums][kJudgeThreads / 32];
    bool failed;
};

__global__ void __launch_bounds__(kJudgeThreads) solver_judge(const CudaSolver solver) {
    auto& memory = shared_memory<JudgeMemory>();
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t blocks = blocks_of(solver), m = solver.s.rows;
    double totals[kSums] = {};
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
        double sum = 0;
        for (std::int64_t b = thread; b < blocks; b += kJudgeThreads)
            sum += solver.sums[b * kSums + i];
        totals[i] = block_sum<kJudgeThreads>(sum, memory.sums[i]);
    }
    const std::int64_t evaluation = solver.counters[static_cast<int>(SolverCounter::evaluations)];
    double* ring = solver.ring_rows + evaluation % solver.capacity * (solver.terms + 1);
    for (std::int64_t i = thread; i < solver.terms; i += kJudgeThreads) {
        const double term = static_cast<double>(solver.losses[i]);
        solver.row[i] = term;
        ring[i] = term;
    }
    if (thread == 0) {
        const double slope = totals[0], along = totals[1], square = totals[2];
        const double loss = static_cast<double>(solver.losses[0]);
        const bool failed = !(is_finite(loss) && is_finite(slope));
        double* number = solver.numbers;
        double& gamma = number[static_cast<int>(SolverNumber::gamma)];
        double& scale = number[static_cast<int>(SolverNumber::step_scale)];
        double& best = number[static_cast<int>(SolverNumber::best_loss)];
        const bool fresh = is_set(solver, SolverFlag::fresh) || failed;
        const bool accept =
            !fresh && along > solver.least_curvature * sqrt(totals[3]) * sqrt(square);
        const bool better = !failed && loss < best;
        std::int64_t* counter = solver.counters;
        std::int64_t& slot = counter[static_cast<int>(SolverCounter::slot)];
        std::int64_t& used = counter[static_cast<int>(SolverCounter::used)];
        if (failed) {
            scale /= solver.shrinkage;
            slot = 0;
            used = 0;
        }
        if (accept && slot >= used) used = slot + 1;
        if (fresh) {
            const double first = solver.first_step * scale * static_cast<double>(solver.length);
            gamma = slope == 0 ? 0 : first / slope;
        } else if (accept) {
            gamma = along / square;
        }
        if (better) best = loss;
        number[static_cast<int>(SolverNumber::slope)] = slope;
        number[static_cast<int>(SolverNumber::along)] = along;
        number[static_cast<int>(SolverNumber::square)] = square;
        ring[solver.terms] = slope;
        solver.flags[static_cast<int>(SolverFlag::fresh)] = fresh;
        solver.flags[static_cast<int>(SolverFlag::failed)] = failed;
        solver.flags[static_cast<int>(SolverFlag::accepted)] = accept;
        solver.flags[static_cast<int>(SolverFlag::better)] = better;
        memory.failed = failed;
    }
    __syncthreads();
    if (memory.failed) {
        for (std::int64_t i = thread; i < m * m; i += kJudgeThreads) solver.inverse[i] = 0;
        for (std::int64_t i = thread; i < m; i += kJudgeThreads) solver.diagonal[i] = 0;
    }
}

__global__ void __launch_bounds__(kSolverThreads) solver_keep(const CudaSolver solver) {
    const std::int64_t n = first_of_thread();
    const std::int64_t evaluation = solver.counters[static_cast<int>(SolverCounter::evaluations)];
    float image[4];
    load_four(solver.image, n, solver.length, image);
    store_four(solver.ring_images + evaluation % solver.capacity * solver.length, n, solver.length,
               image);
    if (is_set(solver, SolverFlag::better)) store_four(solver.best, n, solver.length, image);
    if (is_set(solver, SolverFlag::accepted)) {  // of the whole block
        const std::int64_t slot = solver.counters[static_cast<int>(SolverCounter::slot)];
        float four[4];
        load_four(solver.step, n, solver.length, four);
        store_row(solver.s, slot, n, four);
        load_four(solver.change, n, solver.length, four);
        store_row(solver.y, slot, n, four);
    }
}

struct PairMemory {
    double sums[kPairThreads];
};

// products[r] = sum over chunks of partials[chunk, r] for r < used; all threads of the block.
__device__ __forceinline__ void sum_partials(const CudaSolver& solver, std::int64_t used,
                                             double* products, PairMemory& memory) {
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t chunks = ceil_div(solver.length, kChunk), m = solver.s.rows;
    const int width =
        used < kPairThreads ? static_cast<int>(ceil_div(used, 32) * 32) : kPairThreads;
    for (std::int64_t base = 0; base < used; base += width) {
        const int groups = kPairThreads / width, group = thread / width;
        const std::int64_t r = base + thread % width;
        double sum = 0;
        if (group < groups && r < used) {
#pragma unroll 8
            for (std::int64_t chunk = group; chunk < chunks; chunk += groups)
                sum += static_cast<double>(solver.partials[chunk * m + r]);
        }
        memory.sums[thread] = sum;
        __syncthreads();
        if (group == 0 && r < used) {
            double total = 0;
            for (int g = 0; g < groups; ++g) total += memory.sums[g * width + thread];
            products[r] = total;
        }
        __syncthreads();
    }
}

// sum over j < used of row[j] * x[j], but not of j = left_out; the same in all lanes
__device__ __forceinline__ double row_product(const double* row, const double* x, std::int64_t used,
                                              std::int64_t left_out) {
    double sum = 0;
    for (std::int64_t j = threadIdx.x % 32; j < used; j += 32) {
        if (j != left_out) sum += row[j] * x[j];
    }
    return warp_sum(sum);
}

__global__ void __launch_bounds__(kPairThreads, 1) solver_first(const CudaSolver solver) {
    auto& memory = shared_memory<PairMemory>();
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
    constexpr int warps = kPairThreads / 32;
    const std::int64_t m = solver.s.rows;
    const std::int64_t used = solver.counters[static_cast<int>(SolverCounter::used)];
    const std::int64_t slot = solver.counters[static_cast<int>(SolverCounter::slot)];
    const bool accept = is_set(solver, SolverFlag::accepted);
    const double along = solver.numbers[static_cast<int>(SolverNumber::along)];
    double *now = solver.scratch, *s_y = solver.scratch + m;
    sum_partials(solver, used, now, memory);
    for (std::int64_t i = thread; i < m; i += kPairThreads) {
        const double product = i < used ? now[i] : 0;
        s_y[i] = product - solver.products[i];
        solver.products[i] = product;
        if (accept) {
            solver.inverse[slot * m + i] = 0;
            solver.inverse[i * m + slot] = 0;
        }
    }
    __syncthreads();
    if (accept) {
        for (std::int64_t i = warp; i < used; i += warps) {
            const double sum = row_product(solver.inverse + i * m, s_y, used, slot);
            if (thread % 32 == 0) {
                solver.inverse[i * m + slot] = i == slot ? 1 / along : -sum / along;
                if (i == slot) solver.diagonal[i] = along;
            }
        }
    }
    __syncthreads();
    for (std::int64_t i = warp; i < used; i += warps) {
        const double u = row_product(solver.inverse + i * m, solver.products, used, -1);
        if (thread % 32 == 0) {
            solver.u[i] = u;
            solver.weights[i] = static_cast<float>(-u);
        }
    }
    __syncthreads();  // all have read the slot and evaluation
    if (thread == 0) {
        if (accept) solver.counters[static_cast<int>(SolverCounter::slot)] = (slot + 1) % m;
        solver.flags[static_cast<int>(SolverFlag::accepted)] = false;
    }
}

__global__ void __launch_bounds__(kPairThreads, 1) solver_second(const CudaSolver solver) {
    auto& memory = shared_memory<PairMemory>();
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t m = solver.s.rows;
    const std::int64_t used = solver.counters[static_cast<int>(SolverCounter::used)];
    double *products = solver.scratch, *v = solver.scratch + m;
    sum_partials(solver, used, products, memory);
    for (std::int64_t i = thread; i < used; i += kPairThreads)
        v[i] = solver.diagonal[i] * solver.u[i] - products[i];
    __syncthreads();
    const int width =
        used < kPairThreads ? static_cast<int>(ceil_div(used, 32) * 32) : kPairThreads;
    for (std::int64_t base = 0; base < used;
         base += width) {  // t[j] = sum over i of R^-1[i, j] v[i]
        const int groups = kPairThreads / width, group = thread / width;
        const std::int64_t j = base + thread % width;
        double sum = 0;
        if (group < groups && j < used) {
#pragma unroll 4
            for (std::int64_t i = group; i < used; i += groups)
                sum += solver.inverse[i * m + j] * v[i];
        }
        memory.sums[thread] = sum;
        __syncthreads();
        if (group == 0 && j < used) {
            double t = 0;
            for (int g = 0; g < groups; ++g) t += memory.sums[g * width + thread];
            solver.weights[j] = static_cast<float>(-t);
        }
        __syncthreads();
    }
}

struct MoveMemory {
    double sums[kSolverThreads / 32];
    float cut;
};

__global__ void __launch_bounds__(kSolverThreads) solver_move(const CudaSolver solver) {
    auto& memory = shared_memory<MoveMemory>();
    const std::int64_t n = first_of_thread(), blocks = blocks_of(solver);
    double sum = 0;
    for (std::int64_t b = threadIdx.x; b < blocks; b += kSolverThreads) sum += solver.sums[b];
    const double square = block_sum<kSolverThreads>(sum, memory.sums);
    if (threadIdx.x == 0) {
        const double length = sqrt(square) / sqrt(static_cast<double>(solver.length));
        const double scale = solver.numbers[static_cast<int>(SolverNumber::step_scale)];
        const double cut = solver.longest_step * scale / length;
        memory.cut = static_cast<float>(cut > 1 ? 1 : cut);  // a NaN stays one
    }
    __syncthreads();
    const float cut = memory.cut;
    const bool failed = is_set(solver, SolverFlag::failed);
    float image[4], direction[4], best[4], step[4];
    load_four(solver.image, n, solver.length, image);
    load_four(solver.direction, n, solver.length, direction);
    load_four(solver.best, n, solver.length, best);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float free = fmaf(cut, direction[i], image[i]);
        const float after = free < solver.low    ? solver.low
                            : free > solver.high ? solver.high
                                                 : free;
        step[i] = after - image[i];
        image[i] = failed ? best[i] : after;
    }
    store_four(solver.step, n, solver.length, step);
    store_four(solver.image, n, solver.length, image);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        solver.flags[static_cast<int>(SolverFlag::fresh)] = failed;
        ++solver.counters[static_cast<int>(SolverCounter::evaluations)];
    }
}

void check_solver(const CudaSolver& solver) {
    check_history(solver.s);
    check_history(solver.y);
    expect(solver.length > 0 && solver.terms > 0 && solver.capacity > 0,
           "solver: expected a length, terms and a capacity of at least 1");
    expect(solver.s.length == solver.length && solver.y.length == solver.length &&
               solver.s.rows == solver.y.rows,
           "solver: expected histories of its own length");
    for (const void* pointer :
         {static_cast<const void*>(solver.found),       static_cast<const void*>(solver.losses),
          static_cast<const void*>(solver.image),       static_cast<const void*>(solver.best),
          static_cast<const void*>(solver.gradient),    static_cast<const void*>(solver.step),
          static_cast<const void*>(solver.change),      static_cast<const void*>(solver.direction),
          static_cast<const void*>(solver.ring_images), static_cast<const void*>(solver.ring_rows),
          static_cast<const void*>(solver.row),         static_cast<const void*>(solver.numbers),
          static_cast<const void*>(solver.flags),       static_cast<const void*>(solver.counters),
          static_cast<const void*>(solver.inverse),     static_cast<const void*>(solver.diagonal),
          static_cast<const void*>(solver.products),    static_cast<const void*>(solver.u),
          static_cast<const void*>(solver.scratch),     static_cast<const void*>(solver.weights),
          static_cast<const void*>(solver.sums),        static_cast<const void*>(solver.partials)})
        expect(pointer != nullptr, "solver: null pointer");
}

}  // namespace
}  // namespace cuda

void cuda_solver_take(const CudaSolver& solver, int device, void* stream) {
    using namespace cuda;
    check_solver(solver);
    const DeviceGuard guard(device);
    launch("solver_change", solver_change, solver_blocks(solver), kSolverThreads, stream, solver);
    launch("solver_judge", solver_judge, 1, kJudgeThreads, stream, solver);
    launch("solver_keep", solver_keep, solver_blocks(solver), kSolverThreads, stream, solver);
}

void cuda_solver_first(const CudaSolver& solver, bool scaled, int device, void* stream) {
    using namespace cuda;
    check_solver(solver);
    const DeviceGuard guard(device);
    const std::int64_t* used = solver.counters + static_cast<int>(SolverCounter::used);
    const double* gamma = solver.numbers + static_cast<int>(SolverNumber::gamma);
    launch_products(solver.s, used, solver.gradient, solver.partials, stream);
    launch("solver_first", solver_first, 1, kPairThreads, stream, solver);
    launch_combination(solver.y, used, solver.weights, 1, solver.gradient, scaled ? gamma : nullptr,
                       solver.direction, nullptr, stream);
}

void cuda_solver_second(const CudaSolver& solver, int device, void* stream) {
    using namespace cuda;
    check_solver(solver);
    const DeviceGuard guard(device);
    const std::int64_t* used = solver.counters + static_cast<int>(SolverCounter::used);
    launch_products(solver.y, used, solver.direction, solver.partials, stream);
    launch("solver_second", solver_second, 1, kPairThreads, stream, solver);
    launch_combination(solver.s, used, solver.weights, -1, solver.direction, nullptr,
                       solver.direction, solver.sums, stream);
    launch("solver_move", solver_move, solver_blocks(solver), kSolverThreads, stream, solver);
}

}  // namespace fastnst
