// Random plans that were built, and how to run them.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "random_specs.h"
#include "subbyte/engine.h"

namespace subbyte_tests {

inline void finish(PlanSpec& plan) {
    plan.outputs = {static_cast<std::int64_t>(plan.values.size()) - 1};
    if (plan.values.size() > 2) plan.outputs.push_back(pick(0, static_cast<std::int64_t>(plan.values.size()) - 1));
}

inline Bytes contents(const Layout& v, std::int64_t batch) {
    Bytes bytes(static_cast<std::size_t>(v.count() * batch * storage_bytes(v.storage)));
    const bool extremes = chance(30);
    const auto number = [&] {
        return extremes ? (chance(50) ? v.lo : v.hi) : static_cast<std::int32_t>(pick(v.lo, v.hi));
    };
    for (std::size_t i = 0; i < bytes.size();) {
        if (v.storage == Storage::u8) {
            bytes[i++] = static_cast<std::uint8_t>(number());
        } else {
            const auto n = static_cast<std::int16_t>(number());
            std::memcpy(&bytes[i], &n, 2);
            i += 2;
        }
    }
    return bytes;
}

inline std::vector<Bytes> run(Engine& engine, const std::vector<Bytes>& inputs, std::int64_t batch, int threads,
                              bool keep, bool reals = false) {
    std::vector<Source> in;
    for (const Bytes& b : inputs)
        in.push_back({b.data(), reals ? Form::real : Form::stored});
    const Plan& plan = engine.plan();
    std::vector<Bytes> results;
    std::vector<Target> out;
    for (std::size_t i = 0; i < (keep ? plan.values.size() : plan.outputs.size()); ++i) {
        const Layout& v = plan.values[keep ? i : plan.outputs[i]];
        const std::int64_t size = !reals ? storage_bytes(v.storage) : v.position ? 8 : 4;
        results.emplace_back(static_cast<std::size_t>(v.count() * batch * size));
        out.push_back({nullptr, !reals ? Form::stored : v.position ? Form::position : Form::real});
    }
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i].data = results[i].data();
    engine.run(in, out, batch, threads, keep);
    return results;
}

// A random plan that builds; counts operators that the builder took and that it refused.
inline PlanSpec grown(Constants& constants, const Kernels& kernels, int& accepted, int& refused) {
    PlanSpec plan;
    static constexpr std::int64_t FULL[] = {8, 16, 32, 64, 96, 144};  // of vectors, or of halves and quarters
    const std::int64_t channels = chance(60) ? pick(1, 24) : FULL[pick(0, 5)];
    plan.values.push_back(random_value({pick(1, 9), chance(70) ? pick(1, 9) : pick(9, 20), channels}));
    plan.values.back().name = "v0";
    plan.inputs = {0};
    for (int tries = 0; tries < 12; ++tries) {
        const PlanSpec before = plan;
        Grower(plan, constants).grow();
        finish(plan);
        try {
            build_plan(plan, kernels);
            ++accepted;
        } catch (const PlanError&) {
            plan = before;
            ++refused;
        }
    }
    finish(plan);
    return plan;
}

}  // namespace subbyte_tests
