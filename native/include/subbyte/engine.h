// Runs a plan: batches, threads, arenas. Safe to call from several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "subbyte/plan.h"

namespace subbyte {

constexpr int MAX_THREADS = 256;

// What the numbers of a caller's array are.
enum class Form : std::uint8_t {
    stored,    // stored integers q, in the value's storage
    real,      // float32, scale * (q - zero_point)
    position,  // int64 q, for results that count along an axis; never for inputs
};

// Dense arrays [batch, *shape].
struct Source {
    const void* data;
    Form form = Form::stored;
};

struct Target {
    void* data;
    Form form = Form::stored;
};

class Port;

class Engine {
public:
    explicit Engine(Plan plan);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    // Run `batch` samples. inputs and outputs are in the plan's order; with keep, outputs are all values of the plan.
    // Nothing is allocated once as many arenas exist as calls and threads run at once. Raises PlanError where a stored
    // integer of an input leaves lo..hi of its value, or a real is not finite; outputs then hold anything.
    void run(const std::vector<Source>& inputs, const std::vector<Target>& outputs, std::int64_t batch, int threads,
             bool keep);

    // Nanoseconds, of the fastest of several runs and in the middle of them.
    struct Time {
        std::int64_t least;
        std::int64_t median;
    };

    // Run one sample `repeats` times and give the time of every operator, what reading the clock costs left out; before
    // them the time to take the inputs, behind them the time to give the outputs.
    std::vector<Time> profile(const std::vector<Source>& inputs, const std::vector<Target>& outputs, int threads,
                              int repeats);

    const Plan& plan() const { return plan_; }

private:
    struct Block;
    struct Call;
    class Lease;

    void check(const std::vector<Source>& inputs, const std::vector<Target>& outputs, std::int64_t batch, int threads,
               bool keep) const;
    Frame frame(const Call& call, Block& block, std::int64_t sample) const;
    // False where an input is refused; the call then knows which.
    bool take_inputs(Call& call, const Frame& frame, std::int64_t sample) const;
    void run_op(const Op& op, const Frame& frame, int threads) const;
    void give_outputs(const Call& call, const Frame& frame, std::int64_t sample) const;
    bool run_sample(Call& call, Block& block, std::int64_t sample, int threads) const;
    void raise_refused(const Call& call) const;

    Plan plan_;
    std::vector<Port> ports_;  // of every value
    std::mutex mutex_;
    std::vector<std::unique_ptr<Block>> free_;
    std::size_t blocks_ = 0;  // made so far
};

}  // namespace subbyte
