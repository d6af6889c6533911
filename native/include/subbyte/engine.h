// Runs a plan: batches, threads, arenas. Safe to call from several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "subbyte/plan.h"

namespace subbyte {

constexpr int MAX_THREADS = 256;

class Engine {
public:
    explicit Engine(Plan plan);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    // Run `batch` samples. inputs and outputs are dense arrays [batch, *shape] in the plan's order; with keep, outputs
    // are all values of the plan. Nothing is allocated once as many arenas exist as calls and threads run at once.
    // Raises PlanError where a number of an input leaves lo..hi of its value.
    void run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs, std::int64_t batch, int threads,
             bool keep);

    const Plan& plan() const { return plan_; }

private:
    struct Block;
    struct Call;
    class Lease;

    void run_sample(const Call& call, std::uint8_t* arena, std::int64_t sample, int threads) const;

    Plan plan_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<Block>> free_;
    std::size_t blocks_ = 0;  // made so far
};

}  // namespace subbyte
