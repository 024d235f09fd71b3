// Cuts the passes over a history of vectors into tasks, one for each chunk of positions. Baseline
// code. Sums over chunks are added in their order, so no result depends on the number of threads.

#include <algorithm>
#include <vector>

#include "../checks.h"
#include "../fastnst.h"
#include "dispatch.h"
#include "threads.h"

namespace fastnst {

namespace {

std::vector<HistoryTask> cut(const History& history, std::int64_t first, std::int64_t last) {
    expect(history.values && history.scales, "history: null pointer");
    expect(history.length > 0 && 0 <= first && first <= last && last <= history.rows,
           "history: expected a length of at least 1 and rows that it has");
    constexpr std::int64_t blocks = kHistoryChunk / kHistoryBlock;
    std::vector<HistoryTask> tasks;
    for (std::int64_t n = 0; n < history.length; n += kHistoryChunk) {
        tasks.push_back({history.values + n * history.rows,
                         history.scales + n / kHistoryChunk * history.rows * blocks, first, last,
                         std::min(kHistoryChunk, history.length - n), nullptr, nullptr, nullptr,
                         nullptr});
    }
    return tasks;
}

}  // namespace

void history_store(const History& history, std::int64_t row, const float* x, int threads) {
    expect(x != nullptr, "history: null pointer");
    std::vector<HistoryTask> tasks = cut(history, row, row + 1);
    for (std::size_t i = 0; i < tasks.size(); ++i)
        tasks[i].x = x + static_cast<std::int64_t>(i) * kHistoryChunk;
    const KernelTable& table = kernels();
    for_each(tasks, team_size(threads, tasks.size()),
             [&](HistoryTask& task, int) { table.history->store(task); });
}

void history_products(const History& history, std::int64_t used, const float* x, double* products,
                      int threads) {
    expect(x && products, "history: null pointer");
    std::vector<HistoryTask> tasks = cut(history, 0, used);
    const std::size_t rows = static_cast<std::size_t>(used);
    std::vector<double> partial(tasks.size() * rows);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        tasks[i].x = x + static_cast<std::int64_t>(i) * kHistoryChunk;
        tasks[i].products = partial.data() + i * rows;
    }
    const KernelTable& table = kernels();
    for_each(tasks, team_size(threads, tasks.size()),
             [&](HistoryTask& task, int) { table.history->products(task); });
    std::fill(products, products + used, 0.0);
    for (std::size_t i = 0; i < partial.size(); ++i) products[i % rows] += partial[i];
}

void history_combination(const History& history, std::int64_t used, const float* weights,
                         float* out, int threads) {
    expect(weights && out, "history: null pointer");
    std::vector<HistoryTask> tasks = cut(history, 0, used);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        tasks[i].weights = weights;
        tasks[i].out = out + static_cast<std::int64_t>(i) * kHistoryChunk;
    }
    // The pass before this one, that of the products, has left the last chunks in the cache.
    std::reverse(tasks.begin(), tasks.end());
    const KernelTable& table = kernels();
    for_each(tasks, team_size(threads, tasks.size()),
             [&](HistoryTask& task, int) { table.history->combination(task); });
}

}  // namespace fastnst
