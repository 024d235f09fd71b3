// Sums over a stretch of a picture, in double: float sums over millions of values lose digits (at
// 64 million, a sum of absolute values lost half of its size). Products of two floats are exact in
// double. The sum is kept in kLanes parts for every instruction set, added in a fixed order, so all
// of them give the same bits. Compiled once per instruction set.

#include "table.h"

namespace fastnst {
namespace FASTNST_ISA {
namespace {

constexpr int64_t kLanes = 32;  // four vectors of doubles with AVX-512, so that adds overlap

// sum over i of term(i), lane by lane and then over the lanes
template <class Term>
inline void add_up(SumTask& task, Term term) {
    double lanes[kLanes] = {};
    const int64_t whole = task.count / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
    }
    for (int64_t i = whole; i < task.count; ++i) lanes[i - whole] += term(i);
    double sum = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    task.sum = sum;
}

// sum of |x[i]|
void absolute(SumTask& task) {
    const float* x = task.x;
    add_up(task, [x](int64_t i) { return __builtin_fabs(static_cast<double>(x[i])); });
}

// sum of x[i] * y[i]
void dot(SumTask& task) {
    const float *x = task.x, *y = task.y;
    add_up(task,
           [x, y](int64_t i) { return static_cast<double>(x[i]) * static_cast<double>(y[i]); });
}

// sum of (x[i] - y[i])^2, the difference rounded to float
void squared_distance(SumTask& task) {
    const float *x = task.x, *y = task.y;
    add_up(task, [x, y](int64_t i) {
        const double difference = static_cast<double>(x[i] - y[i]);
        return difference * difference;
    });
}

}  // namespace

extern const SumsTable sums_table;
const SumsTable sums_table = {absolute, dot, squared_distance};

}  // namespace FASTNST_ISA
}  // namespace fastnst
