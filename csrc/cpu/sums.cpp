// Cuts sums over a picture into stretches of kSumsChunk values and adds their sums in order.
// Baseline code. The cut depends on the length alone: the result has the same bits for every number
// of threads.

#include <algorithm>
#include <vector>

#include "../checks.h"
#include "../fastnst.h"
#include "dispatch.h"
#include "threads.h"

namespace fastnst {

double sum(Sum what, const float* x, const float* y, std::int64_t length, int threads) {
    expect(length >= 0 && (x || length == 0), "sum: null pointer");
    expect(what == Sum::absolute || y || length == 0, "sum: null pointer");
    const SumsTable& table = *kernels().sums;
    void (*const kernel)(SumTask&) = what == Sum::absolute ? table.absolute
                                     : what == Sum::dot    ? table.dot
                                                           : table.squared_distance;
    std::vector<SumTask> tasks;
    for (std::int64_t i = 0; i < length; i += kSumsChunk)
        tasks.push_back({x + i, y ? y + i : nullptr, std::min(kSumsChunk, length - i), 0});
    for_each(tasks, team_size(threads, tasks.size()), [&](SumTask& task, int) { kernel(task); });
    double total = 0;
    for (const SumTask& task : tasks) total += task.sum;
    return total;
}

}  // namespace fastnst
