// The curvature pairs of L-BFGS in eight bits: a step of the solver reads all of them twice and
// does two operations on each number, so it takes as long as they are large. A row of a chunk is
// one page, at whose end the processor's own prefetching stops, so the next row is asked for here:
// that takes a third off a combination. Compiled once per instruction set.

#include "simd.h"
#include "table.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

constexpr int64_t kBlocks = kHistoryChunk / kHistoryBlock;
constexpr int64_t kPart = 4;  // sums in flight: vectors of products, rows of a combination

// scale = largest |x| / 127,   values = round(x / scale)
void store(const HistoryTask& task) {
    int8_t* values = task.values + task.first * kHistoryChunk;
    float* scales = task.scales + task.first * kBlocks;
    for (int64_t block = 0; block < kBlocks; ++block) {
        float x[kHistoryBlock];
        for (int64_t i = 0; i < kHistoryBlock; ++i) {
            const int64_t n = block * kHistoryBlock + i;
            x[i] = n < task.count ? task.x[n] : 0.0f;
        }
        float largest = 0;
        for (int64_t i = 0; i < kHistoryBlock; ++i) {
            const float size = x[i] < 0 ? -x[i] : x[i];
            largest = size > largest ? size : largest;
        }
        scales[block] = largest / 127.0f;
        const float inverse = largest > 2e-36f ? 127.0f / largest : 0.0f;
        for (int64_t i = 0; i < kHistoryBlock; ++i) {
            // adding 1.5 * 2^23 leaves the nearest integer in the low bits
            const float rounded = x[i] * inverse + 12582912.0f;
            int32_t bits;
            memcpy(&bits, &rounded, 4);
            values[block * kHistoryBlock + i] = static_cast<int8_t>(bits - 0x4b400000);
        }
    }
}

double sum(Vec x) {
    float lanes[kWidth];
    fastnst::FASTNST_ISA::store(lanes, x);
    double total = 0;
    for (int i = 0; i < kWidth; ++i) total += static_cast<double>(lanes[i]);
    return total;
}

// products[r] = sum over blocks of scale * (sum of values * x)
void products(const HistoryTask& task) {
    alignas(64) float x[kHistoryChunk];
    memcpy(x, task.x, static_cast<size_t>(task.count) * sizeof(float));
    memset(x + task.count, 0, static_cast<size_t>(kHistoryChunk - task.count) * sizeof(float));
    for (int64_t row = task.first; row < task.last; ++row) {
        const int8_t* values = task.values + row * kHistoryChunk;
        const float* scales = task.scales + row * kBlocks;
        Vec total = zero();
        for (int64_t block = 0; block < kBlocks; ++block) {
            Vec parts[kPart];
            for (int64_t p = 0; p < kPart; ++p) parts[p] = zero();
            const int64_t first = block * kHistoryBlock;
            __builtin_prefetch(values + kHistoryChunk + first);
            for (int64_t i = 0; i < kHistoryBlock; i += kPart * kWidth) {
                for (int64_t p = 0; p < kPart; ++p) {
                    const int64_t n = first + i + p * kWidth;
                    parts[p] = multiply_add(load(values + n), load(x + n), parts[p]);
                }
            }
            const Vec all = add(add(parts[0], parts[1]), add(parts[2], parts[3]));
            total = multiply_add(broadcast(scales + block), all, total);
        }
        task.products[row] = sum(total);
    }
}

// out += sum over rows of (weight * scale) * values, kPart rows at a time
void combination(const HistoryTask& task) {
    alignas(64) float sums[kHistoryChunk];
    memset(sums, 0, sizeof(sums));
    for (int64_t row = task.first; row < task.last; row += kPart) {
        const int64_t rows = task.last - row < kPart ? task.last - row : kPart;
        for (int64_t block = 0; block < kBlocks; ++block) {
            Vec factors[kPart];
            for (int64_t p = 0; p < rows; ++p) {
                const float factor =
                    task.weights[row + p] * task.scales[(row + p) * kBlocks + block];
                factors[p] = broadcast(&factor);
            }
            const int8_t* values = task.values + row * kHistoryChunk + block * kHistoryBlock;
            for (int64_t p = 0; p < kPart; ++p)
                __builtin_prefetch(values + (kPart + p) * kHistoryChunk);
            float* out = sums + block * kHistoryBlock;
            for (int64_t i = 0; i < kHistoryBlock; i += kWidth) {
                Vec total = load(out + i);
                for (int64_t p = 0; p < rows; ++p)
                    total = multiply_add(factors[p], load(values + p * kHistoryChunk + i), total);
                fastnst::FASTNST_ISA::store(out + i, total);
            }
        }
    }
    for (int64_t n = 0; n < task.count; ++n) task.out[n] += sums[n];
}

}  // namespace

extern const HistoryTable history_table;
const HistoryTable history_table = {store, products, combination};

}  // namespace FASTNST_ISA
}  // namespace fastnst
