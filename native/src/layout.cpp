#include "layout.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "attributes.h"
#include "walk.h"

namespace subbyte {
namespace {

constexpr std::int64_t ALIGNMENT = 64;
constexpr std::int64_t MOST_ARENA = std::int64_t{1} << 40;

void place_numbers(Layout& v, const std::string& name) {
    const std::int64_t size = storage_bytes(v.storage);
    v.strides = dense(v.shape);
    std::int64_t numbers = v.count();
    if (v.bordered()) {
        const std::int64_t height = v.shape[0] + v.top + v.bottom;
        const std::int64_t width = v.shape[1] + v.left + v.right;
        numbers = product({height, width, v.shape[2]}, "value '" + name + "' with its border");
        v.strides[0] = width * v.shape[2];
        v.origin = (v.top * v.strides[0] + v.left * v.shape[2]) * size;
    }
    if (numbers > (INT32_HI - READ_SLACK) / size) fail("value '" + name + "'", "needs more than 2^31 - 1 bytes");
    v.bytes = numbers * size;
}

// First and last step at which each buffer holds something; inputs exist from the start, outputs to the end.
struct Life {
    std::size_t first;
    std::size_t last;
};

std::vector<Life> lives(const Plan& plan) {
    const std::size_t end = plan.ops.size() + 1;
    std::vector<Life> life(plan.values.size(), Life{end, 0});
    const auto touch = [&](std::size_t value, std::size_t step) {
        Life& l = life[plan.values[value].root];
        l.first = std::min(l.first, step);
        l.last = std::max(l.last, step);
    };
    for (const std::size_t v : plan.inputs)
        touch(v, 0);
    for (std::size_t i = 0; i < plan.ops.size(); ++i) {
        for (const std::size_t v : plan.ops[i]->inputs)
            touch(v, i + 1);
        touch(plan.ops[i]->output, i + 1);
    }
    for (const std::size_t v : plan.outputs)
        touch(v, end);
    return life;
}

std::int64_t room(const Layout& v) {
    return (v.bytes + READ_SLACK + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// Largest buffers first, each at the lowest place that is free during its life (Pisarchyk and Lee 2020, "Efficient
// Memory Management for Deep Neural Net Inference", greedy by size).
Arena share(const Plan& plan, bool keep) {
    const std::vector<Life> life = lives(plan);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
        if (plan.values[i].root == i) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return plan.values[a].bytes > plan.values[b].bytes; });
    Arena arena;
    arena.origins.assign(plan.values.size(), 0);
    std::vector<std::size_t> placed;  // by ascending start
    for (const std::size_t v : order) {
        std::int64_t start = 0;
        for (const std::size_t other : placed) {
            const bool meet = keep || (life[v].first <= life[other].last && life[other].first <= life[v].last);
            if (!meet) continue;
            if (start + room(plan.values[v]) <= arena.origins[other]) break;
            start = std::max(start, arena.origins[other] + room(plan.values[other]));
        }
        arena.origins[v] = start;
        arena.bytes = std::max(arena.bytes, start + room(plan.values[v]));
        if (arena.bytes > MOST_ARENA) fail("plan", "the arena exceeds 2^40 bytes");
        placed.insert(
            std::upper_bound(placed.begin(), placed.end(), v,
                             [&](std::size_t a, std::size_t b) { return arena.origins[a] < arena.origins[b]; }),
            v);
    }
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
        const std::size_t root = plan.values[i].root;
        if (root == i) arena.origins[i] += plan.values[i].origin;
    }
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
        const std::size_t root = plan.values[i].root;
        if (root != i) arena.origins[i] = arena.origins[root];  // neither has a border
    }
    return arena;
}

void find_outside(Plan& plan) {
    for (std::size_t i = 0; i < plan.values.size(); ++i)
        plan.values[i].outside = plan.values[i].root == i && !plan.values[i].bordered();
    for (const auto& op : plan.ops) {
        const bool exact = op->reads_exactly(plan.values);
        for (const std::size_t v : op->inputs)
            plan.values[v].outside = plan.values[v].outside && plan.values[v].given && exact;
    }
}

}  // namespace

void lay_out(Plan& plan) {
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
        plan.values[i].root = i;
        place_numbers(plan.values[i], plan.specs[i].name);
    }
    for (const auto& op : plan.ops) {
        if (!op->aliases()) continue;
        const Layout& in = plan.values[op->inputs[0]];
        Layout& out = plan.values[op->output];
        if (!in.bordered() && !out.bordered()) out.root = in.root;
    }
    find_outside(plan);
    plan.shared = share(plan, false);
    plan.keep = share(plan, true);
}

void fill_border(const Layout& v, std::uint8_t* element0) {
    if (!v.bordered()) return;
    const std::int64_t size = storage_bytes(v.storage);
    const auto row = static_cast<std::size_t>(v.strides[0] * size);
    const auto left = static_cast<std::size_t>(v.left * v.shape[2] * size);
    const auto right = static_cast<std::size_t>(v.right * v.shape[2] * size);
    std::uint8_t* p = element0 - v.origin;
    const auto wipe = [&](std::size_t bytes) {
        if (size == 1) {
            std::memset(p, v.zero_point, bytes);
        } else {
            std::fill_n(reinterpret_cast<std::int16_t*>(p), bytes / 2, static_cast<std::int16_t>(v.zero_point));
        }
        p += bytes;
    };
    wipe(row * static_cast<std::size_t>(v.top) + left);
    for (std::int64_t y = 0; y + 1 < v.shape[0]; ++y) {
        p += row - left - right;
        wipe(right + left);
    }
    p += row - left - right;
    wipe(right + row * static_cast<std::size_t>(v.bottom));
}

}  // namespace subbyte
