// Runs plans: the batch is split among threads, a single sample's operators are split among them instead.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "attributes.h"
#include "boundary.h"
#include "layout.h"
#include "stopwatch.h"
#include "subbyte/engine.h"
#include "subbyte/thread_pool.h"

namespace subbyte {
namespace {

constexpr std::int64_t LEAST_WORK = 1 << 15;  // operations below which sharing an operator costs more than it gains
constexpr std::size_t ALIGNMENT = 64;
constexpr int MAX_REPEATS = 100000;

struct OpJob {
    const Op* op;
    const Frame* frame;
    int parts;

    static void run(void* context, int part) {
        const OpJob& job = *static_cast<const OpJob*>(context);
        job.op->run(*job.frame, Part{part, job.parts});
    }
};

}  // namespace

// One arena; both layouts of the plan fit where keep was asked for.
struct Engine::Block {
    Block(std::int64_t size, std::size_t values) : bytes(size), places(values) {
        data = static_cast<std::uint8_t*>(::operator new(static_cast<std::size_t>(size), std::align_val_t{ALIGNMENT}));
        std::memset(data, 0, static_cast<std::size_t>(size));
    }
    ~Block() { ::operator delete(data, std::align_val_t{ALIGNMENT}); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    std::int64_t bytes;
    std::uint8_t* data;
    std::vector<std::uint8_t*> places;  // of the values of the sample that runs
};

// Takes arenas from the engine's free ones and gives them back.
class Engine::Lease {
public:
    explicit Lease(Engine& engine) : engine_(engine) {}
    // Delegates, so that the destructor gives back what was taken before an allocation failed.
    Lease(Engine& engine, int count, std::int64_t bytes) : Lease(engine) {
        for (; count_ < count; ++count_)
            blocks_[count_] = take(bytes).release();
    }
    ~Lease() {
        const std::lock_guard<std::mutex> lock(engine_.mutex_);
        while (count_ > 0)
            engine_.free_.emplace_back(blocks_[--count_]);
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    Block& block(int index) const { return *blocks_[index]; }

private:
    std::unique_ptr<Block> take(std::int64_t bytes) {
        {
            const std::lock_guard<std::mutex> lock(engine_.mutex_);
            auto& free = engine_.free_;
            for (std::size_t i = free.size(); i-- > 0;) {
                if (free[i]->bytes < bytes) continue;
                std::unique_ptr<Block> found = std::move(free[i]);
                free.erase(free.begin() + static_cast<std::ptrdiff_t>(i));
                return found;
            }
            // Room for giving it back, so that the destructor never allocates.
            ++engine_.blocks_;
            free.reserve(engine_.blocks_);
        }
        return std::make_unique<Block>(bytes, engine_.plan_.values.size());
    }

    Engine& engine_;
    int count_ = 0;
    Block* blocks_[MAX_THREADS];
};

struct Engine::Call {
    const Engine* engine;
    const std::vector<Source>* inputs;
    const std::vector<Target>* outputs;
    const Lease* lease;
    std::int64_t batch;
    int parts;
    bool keep;
    std::atomic<int> refused{NONE};  // an input that is

    static constexpr int NONE = -1;

    static void run(void* context, int index) {
        Call& call = *static_cast<Call*>(context);
        const Part part{index, call.parts};
        for (std::int64_t i = part.begin(call.batch); i < part.end(call.batch); ++i) {
            if (!call.engine->run_sample(call, call.lease->block(index), i, 1)) return;
        }
    }
};

Engine::Engine(Plan plan) : plan_(std::move(plan)) {
    for (const Layout& value : plan_.values)
        ports_.emplace_back(value, *plan_.kernels);
}

Engine::~Engine() = default;

// Values that may lie in the caller's arrays do, everything else lies in the block.
Frame Engine::frame(const Call& call, Block& block, std::int64_t sample) const {
    const Arena& layout = call.keep ? plan_.keep : plan_.shared;
    for (std::size_t i = 0; i < plan_.values.size(); ++i)
        block.places[i] = block.data + layout.origins[i];
    const auto leave = [&](std::size_t value, const auto& array) {
        if (plan_.values[value].outside && array.form == Form::stored)
            block.places[value] = ports_[value].place(array, sample);
    };
    for (std::size_t i = 0; !call.keep && i < plan_.inputs.size(); ++i)
        leave(plan_.inputs[i], (*call.inputs)[i]);
    for (std::size_t i = 0; !call.keep && i < plan_.outputs.size(); ++i) {
        if (!plan_.values[plan_.outputs[i]].given) leave(plan_.outputs[i], (*call.outputs)[i]);
    }
    return Frame{block.places.data(), block.data + layout.bytes, plan_.scratch_bytes};
}

bool Engine::take_inputs(Call& call, const Frame& frame, std::int64_t sample) const {
    for (std::size_t i = 0; i < plan_.inputs.size(); ++i) {
        const std::size_t value = plan_.inputs[i];
        fill_border(plan_.values[value], frame.at(value));
        if (!ports_[value].take((*call.inputs)[i], sample, frame.at(value))) {
            call.refused.store(static_cast<int>(i), std::memory_order_relaxed);
            return false;
        }
    }
    return true;
}

void Engine::run_op(const Op& op, const Frame& frame, int threads) const {
    fill_border(plan_.values[op.output], frame.at(op.output));
    if (threads > 1 && op.work >= LEAST_WORK) {
        OpJob job{&op, &frame, threads};
        parallel(threads, OpJob::run, &job);
    } else {
        op.run(frame, Part{});
    }
}

void Engine::give_outputs(const Call& call, const Frame& frame, std::int64_t sample) const {
    const std::size_t count = call.keep ? plan_.values.size() : plan_.outputs.size();
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t value = call.keep ? i : plan_.outputs[i];
        ports_[value].give(frame.at(value), (*call.outputs)[i], sample);
    }
}

bool Engine::run_sample(Call& call, Block& block, std::int64_t sample, int threads) const {
    const Frame buffers = frame(call, block, sample);
    if (!take_inputs(call, buffers, sample)) return false;
    for (const auto& op : plan_.ops)
        run_op(*op, buffers, threads);
    give_outputs(call, buffers, sample);
    return true;
}

void Engine::check(const std::vector<Source>& inputs, const std::vector<Target>& outputs, std::int64_t batch,
                   int threads, bool keep) const {
    if (inputs.size() != plan_.inputs.size() || outputs.size() != (keep ? plan_.values.size() : plan_.outputs.size()))
        fail("run", "wrong number of arrays");
    if (batch < 1) fail("run", "the batch is empty");
    if (threads < 1 || threads > MAX_THREADS) fail("run", "threads outside 1.." + std::to_string(MAX_THREADS));
}

void Engine::run(const std::vector<Source>& inputs, const std::vector<Target>& outputs, std::int64_t batch, int threads,
                 bool keep) {
    check(inputs, outputs, batch, threads, keep);
    const int parts = static_cast<int>(std::min<std::int64_t>(batch, threads));
    const std::int64_t scratch = plan_.scratch_bytes * (parts > 1 ? 1 : threads);
    const Lease lease(*this, parts, (keep ? plan_.keep : plan_.shared).bytes + scratch);
    Call call{this, &inputs, &outputs, &lease, batch, parts, keep};
    if (parts > 1) {
        parallel(parts, Call::run, &call);
    } else {
        bool good = true;
        for (std::int64_t i = 0; i < batch && good; ++i)
            good = run_sample(call, lease.block(0), i, threads);
    }
    raise_refused(call);
}

void Engine::raise_refused(const Call& call) const {
    const int refused = call.refused.load(std::memory_order_relaxed);
    if (refused == Call::NONE) return;
    const auto input = static_cast<std::size_t>(refused);
    const Layout& v = plan_.values[plan_.inputs[input]];
    const std::string range = std::to_string(v.lo) + ".." + std::to_string(v.hi);
    fail("input '" + plan_.specs[plan_.inputs[input]].name + "'",
         (*call.inputs)[input].form == Form::real ? "holds NaN or infinity" : "holds numbers outside " + range);
}

std::vector<Engine::Time> Engine::profile(const std::vector<Source>& inputs, const std::vector<Target>& outputs,
                                          int threads, int repeats) {
    check(inputs, outputs, 1, threads, false);
    if (repeats < 1 || repeats > MAX_REPEATS) fail("profile", "repeats outside 1.." + std::to_string(MAX_REPEATS));
    const Lease lease(*this, 1, plan_.shared.bytes + plan_.scratch_bytes * threads);
    Call call{this, &inputs, &outputs, &lease, 1, 1, false};
    const Frame buffers = frame(call, lease.block(0), 0);
    Stopwatch watch(plan_.ops.size() + 2, repeats);
    for (int i = 0; i < repeats; ++i) {
        watch.start();
        if (!take_inputs(call, buffers, 0)) raise_refused(call);
        watch.lap();
        for (const auto& op : plan_.ops) {
            run_op(*op, buffers, threads);
            watch.lap();
        }
        give_outputs(call, buffers, 0);
        watch.lap();
    }
    return watch.times();
}

}  // namespace subbyte
