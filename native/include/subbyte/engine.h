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

    // Nanoseconds, of the fastest of several runs and in the middle of them.
    struct Time {
        std::int64_t least;
        std::int64_t median;
    };

    // Run one sample `repeats` times and give the time of every operator, what reading the clock costs left out; before
    // them the time to take the inputs, behind them the time to give the outputs.
    std::vector<Time> profile(const std::vector<const void*>& inputs, const std::vector<void*>& outputs, int threads,
                              int repeats);

    const Plan& plan() const { return plan_; }

private:
    struct Block;
    struct Call;
    class Lease;

    void check(const std::vector<const void*>& inputs, const std::vector<void*>& outputs, std::int64_t batch,
               int threads, bool keep) const;
    Frame frame(const Call& call, std::uint8_t* arena) const;
    void take_inputs(const Call& call, const Frame& frame, std::int64_t sample) const;
    void run_op(const Op& op, const Frame& frame, int threads) const;
    void give_outputs(const Call& call, const Frame& frame, std::int64_t sample) const;
    void run_sample(const Call& call, std::uint8_t* arena, std::int64_t sample, int threads) const;

    Plan plan_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<Block>> free_;
    std::size_t blocks_ = 0;  // made so far
};

}  // namespace subbyte
