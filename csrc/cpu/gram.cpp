// Cuts Gram matrices, style losses and their gradients into tasks for threads. Baseline code.
//
// What is summed together depends on the shapes only, never on the number of threads, and partial
// sums are added in a fixed order: the result has the same bits for every number of threads.

#include <algorithm>
#include <vector>

#include "../checks.h"
#include "../fastnst.h"
#include "dispatch.h"
#include "kernels/integers.h"
#include "threads.h"

namespace fastnst {
namespace {

Source sample(const void* data, DType dtype, std::int64_t offset, std::int64_t channel_stride,
              std::int64_t position_stride) {
    return {static_cast<const char*>(data) + offset * size_of(dtype), dtype == DType::bfloat16,
            channel_stride, position_stride};
}

// How many independent sums a Gram is made of: at least 512 positions each, at most 32 sums and at
// most 4 MiB for all (512 channels: 4 sums of 1 MiB).
std::int64_t slots_of(std::int64_t channels, std::int64_t positions) {
    const std::int64_t by_memory = (std::int64_t{1} << 20) / (channels * channels);
    return std::clamp<std::int64_t>(std::min(by_memory, positions / 512), 1, 32);
}

constexpr std::int64_t kReduceRows = 32;

}  // namespace

void gram(const GramLayer* layers, std::size_t count, int threads) {
    const GramTable& table = *kernels().gram;
    struct Plan {
        std::int64_t slots, slot_size, groups, partials;
    };
    std::vector<Plan> plans;
    std::int64_t partial_floats = 0, scratch_floats = 0, sums = 0;
    for (std::size_t l = 0; l < count; ++l) {
        const GramLayer& layer = layers[l];
        check_features(layer.features);
        expect(!layer.target || layer.loss, "loss: null pointer");
        const std::int64_t c = layer.features.channels, n = layer.features.positions;
        const std::int64_t slots = slots_of(c, n), padded = table.padded(c);
        plans.push_back({slots, round_up(ceil_div(n, slots), 128), 1, partial_floats});
        plans.back().slots = ceil_div(n, plans.back().slot_size);
        partial_floats += round_up(layer.features.batch * plans.back().slots * padded * padded, 16);
        scratch_floats = std::max(scratch_floats, round_up(table.gram_scratch(c), 16));
        sums += layer.features.batch * plans.back().slots;
    }
    // Too few sums for the threads: share out the columns of each (this changes no bit of any sum).
    const std::int64_t wanted =
        threads > 1 ? ceil_div(4 * threads, std::max<std::int64_t>(sums, 1)) : 1;
    for (std::size_t l = 0; l < count; ++l) {
        plans[l].groups = std::min(wanted, table.panels(layers[l].features.channels));
    }

    std::vector<GramTask> tasks;
    std::vector<ReduceTask> reductions;
    const int most = std::max(threads, 1);  // threads that may need scratch
    const Buffer buffer(partial_floats + scratch_floats * most);
    for (std::size_t l = 0; l < count; ++l) {
        const GramLayer& layer = layers[l];
        const Features& f = layer.features;
        const Plan& plan = plans[l];
        const std::int64_t c = f.channels, padded = table.padded(c), panels = table.panels(c);
        for (std::int64_t b = 0; b < f.batch; ++b) {
            float* first_partial = buffer.get() + plan.partials + b * plan.slots * padded * padded;
            for (std::int64_t s = 0; s < plan.slots; ++s) {
                std::int64_t panel = 0;
                for (std::int64_t g = 0; g < plan.groups; ++g) {
                    // equal areas of the triangle: the columns left of the panel grow as its square
                    // root
                    const double share =
                        static_cast<double>(g + 1) / static_cast<double>(plan.groups);
                    std::int64_t end = panel;
                    while (end < panels && (g + 1 == plan.groups ||
                                            static_cast<double>(end * end) <
                                                share * static_cast<double>(panels * panels)))
                        ++end;
                    if (end == panel) continue;
                    tasks.push_back({sample(f.data, f.dtype, b * f.batch_stride, f.channel_stride,
                                            f.position_stride),
                                     c, s * plan.slot_size,
                                     std::min((s + 1) * plan.slot_size, f.positions), panel, end,
                                     first_partial + s * padded * padded, nullptr});
                    panel = end;
                }
            }
            for (std::int64_t i = 0; i < c; i += kReduceRows) {
                const std::int64_t offset = b * c * c;
                reductions.push_back(
                    {first_partial, plan.slots, c, i, std::min(i + kReduceRows, c),
                     1.0f / static_cast<float>(f.positions),
                     layer.gram ? layer.gram + offset : nullptr,
                     layer.target ? layer.target + b * layer.target_batch_stride : nullptr,
                     layer.difference ? layer.difference + offset : nullptr, nullptr});
            }
        }
    }

    // The longest first, so that no thread is left with one at the end: 512 channels have four sums
    // at most. What is summed is a triangle.
    const auto work = [&](const GramTask& task) {
        const std::int64_t panels = table.panels(task.channels);
        const std::int64_t columns =
            task.last_panel * task.last_panel - task.first_panel * task.first_panel;
        return static_cast<double>((task.last - task.first) * task.channels * task.channels) *
               static_cast<double>(columns) / static_cast<double>(panels * panels);
    };
    std::stable_sort(tasks.begin(), tasks.end(),
                     [&](const GramTask& x, const GramTask& y) { return work(x) > work(y); });
    for_each(tasks, team_size(threads, tasks.size()), [&](GramTask& task, int thread) {
        task.scratch = buffer.get() + partial_floats + thread * scratch_floats;
        table.gram(task);
    });
    std::vector<double> losses(reductions.size());
    for (std::size_t r = 0; r < reductions.size(); ++r) reductions[r].loss = &losses[r];
    for_each(reductions, team_size(threads, reductions.size()),
             [&](ReduceTask& task, int) { table.reduce(task); });

    std::size_t r = 0;
    for (std::size_t l = 0; l < count; ++l) {
        const std::int64_t b = layers[l].features.batch, c = layers[l].features.channels;
        double loss = 0;
        for (std::int64_t i = 0; i < b * ceil_div(c, kReduceRows); ++i) loss += losses[r++];
        if (layers[l].target)
            *layers[l].loss =
                static_cast<float>(loss / (static_cast<double>(b) * static_cast<double>(c * c)));
    }
}

void gram_gradient(const GradientLayer* layers, std::size_t count, int threads) {
    const GramTable& table = *kernels().gram;
    std::int64_t packed_floats = 0, scratch_floats = 0;
    for (std::size_t l = 0; l < count; ++l) {
        const Features& f = layers[l].features;
        check_features(f);
        expect(layers[l].difference != nullptr, "difference: null pointer");
        expect(layers[l].out != nullptr, "out: null pointer");
        packed_floats +=
            f.batch * round_up(table.padded(f.channels) * table.padded(f.channels), 16);
        scratch_floats = std::max(scratch_floats, round_up(table.gradient_scratch(f.channels), 16));
    }
    const int most = std::max(threads, 1);
    const Buffer buffer(packed_floats + scratch_floats * most);
    std::vector<PackTask> packs;
    std::vector<GradientTask> tasks;
    float* next = buffer.get();
    for (std::size_t l = 0; l < count; ++l) {
        const GradientLayer& layer = layers[l];
        const Features& f = layer.features;
        const std::int64_t c = f.channels, block = table.gradient_block(c);
        const bool swap = f.channel_stride == 1 && f.position_stride != 1;
        if (!layer.accumulate &&
            (layer.out_position_stride == 1 || layer.out_channel_stride == 1)) {
            expect_writes(layer.out, f.batch * c * f.positions * size_of(layer.out_dtype));
        }
        for (std::int64_t b = 0; b < f.batch; ++b) {
            for (std::int64_t i = 0; i < c; i += 2 * table.pack_step) {
                packs.push_back({layer.difference + b * c * c, c, i,
                                 std::min(i + 2 * table.pack_step, c), f.dtype == DType::bfloat16,
                                 swap, next});
            }
            const std::int64_t step =
                block * std::clamp<std::int64_t>(f.positions / block / 32, 1, 8);
            for (std::int64_t n = 0; n < f.positions; n += step) {
                tasks.push_back({sample(f.data, f.dtype, b * f.batch_stride, f.channel_stride,
                                        f.position_stride),
                                 sample(layer.out, layer.out_dtype, b * layer.out_batch_stride,
                                        layer.out_channel_stride, layer.out_position_stride),
                                 next, c, n, std::min(n + step, f.positions), layer.scale,
                                 layer.relu_mask, layer.accumulate, swap, nullptr});
            }
            next += round_up(table.padded(c) * table.padded(c), 16);
        }
    }
    for_each(packs, team_size(threads, packs.size()),
             [&](PackTask& task, int) { table.pack(task); });
    for_each(tasks, team_size(threads, tasks.size()), [&](GradientTask& task, int thread) {
        task.scratch = buffer.get() + packed_floats + thread * scratch_floats;
        table.gradient(task);
    });
}

}  // namespace fastnst
