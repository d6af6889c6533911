// Runs plans: the batch is split among threads, a single sample's operators are split among them instead.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <new>

#include "attributes.h"
#include "layout.h"
#include "stopwatch.h"
#include "subbyte/engine.h"
#include "subbyte/thread_pool.h"
#include "walk.h"

namespace subbyte {
namespace {

constexpr std::int64_t LEAST_WORK = 1 << 15;  // operations below which sharing an operator costs more than it gains
constexpr std::size_t ALIGNMENT = 64;
constexpr int MAX_REPEATS = 100000;

template <class T>
bool inside(const void* data, std::int64_t count, std::int32_t lo, std::int32_t hi) {
    if (lo <= std::numeric_limits<T>::min() && hi >= std::numeric_limits<T>::max()) return true;
    const T* numbers = static_cast<const T*>(data);
    T least = numbers[0];
    T most = numbers[0];
    for (std::int64_t i = 0; i < count; ++i) {
        least = numbers[i] < least ? numbers[i] : least;  // by value, which compilers turn into vectors
        most = numbers[i] > most ? numbers[i] : most;
    }
    return least >= lo && most <= hi;
}

// Copy a value between a dense array and its buffer.
void copy_value(const Layout& v, std::uint8_t* buffer, std::uint8_t* array, bool into_buffer) {
    const std::int64_t size = storage_bytes(v.storage);
    const Walk<2> walk(v.shape, {v.strides, dense(v.shape)});
    walk.each(Part{}, [&](const Walk<2>::Offsets& at, std::int64_t count) {
        std::uint8_t* inner = buffer + at[0] * size;
        std::uint8_t* outer = array + at[1] * size;
        std::memcpy(into_buffer ? inner : outer, into_buffer ? outer : inner, static_cast<std::size_t>(count * size));
    });
}

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
    explicit Block(std::int64_t size) : bytes(size) {
        data = static_cast<std::uint8_t*>(::operator new(static_cast<std::size_t>(size), std::align_val_t{ALIGNMENT}));
        std::memset(data, 0, static_cast<std::size_t>(size));
    }
    ~Block() { ::operator delete(data, std::align_val_t{ALIGNMENT}); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    std::int64_t bytes;
    std::uint8_t* data;
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

    std::uint8_t* arena(int index) const { return blocks_[index]->data; }

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
        return std::make_unique<Block>(bytes);
    }

    Engine& engine_;
    int count_ = 0;
    Block* blocks_[MAX_THREADS];
};

struct Engine::Call {
    const Engine* engine;
    const std::vector<const void*>* inputs;
    const std::vector<void*>* outputs;
    const Lease* lease;
    std::int64_t batch;
    int parts;
    bool keep;

    static void run(void* context, int index) {
        const Call& call = *static_cast<const Call*>(context);
        const Part part{index, call.parts};
        for (std::int64_t i = part.begin(call.batch); i < part.end(call.batch); ++i)
            call.engine->run_sample(call, call.lease->arena(index), i, 1);
    }
};

Engine::Engine(Plan plan) : plan_(std::move(plan)) {}

Engine::~Engine() = default;

Frame Engine::frame(const Call& call, std::uint8_t* arena) const {
    const Arena& layout = call.keep ? plan_.keep : plan_.shared;
    return Frame{arena, layout.origins.data(), arena + layout.bytes, plan_.scratch_bytes};
}

void Engine::take_inputs(const Call& call, const Frame& frame, std::int64_t sample) const {
    for (std::size_t i = 0; i < plan_.inputs.size(); ++i) {
        const Layout& v = plan_.values[plan_.inputs[i]];
        const std::int64_t bytes = v.count() * storage_bytes(v.storage);
        auto* array = const_cast<std::uint8_t*>(static_cast<const std::uint8_t*>((*call.inputs)[i]) + sample * bytes);
        fill_border(v, frame.at(plan_.inputs[i]));
        copy_value(v, frame.at(plan_.inputs[i]), array, true);
    }
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
        const Layout& v = plan_.values[value];
        const std::int64_t bytes = v.count() * storage_bytes(v.storage);
        copy_value(v, frame.at(value), static_cast<std::uint8_t*>((*call.outputs)[i]) + sample * bytes, false);
    }
}

void Engine::run_sample(const Call& call, std::uint8_t* arena, std::int64_t sample, int threads) const {
    const Frame buffers = frame(call, arena);
    take_inputs(call, buffers, sample);
    for (const auto& op : plan_.ops)
        run_op(*op, buffers, threads);
    give_outputs(call, buffers, sample);
}

void Engine::check(const std::vector<const void*>& inputs, const std::vector<void*>& outputs, std::int64_t batch,
                   int threads, bool keep) const {
    if (inputs.size() != plan_.inputs.size() || outputs.size() != (keep ? plan_.values.size() : plan_.outputs.size()))
        fail("run", "wrong number of arrays");
    if (batch < 1) fail("run", "the batch is empty");
    if (threads < 1 || threads > MAX_THREADS) fail("run", "threads outside 1.." + std::to_string(MAX_THREADS));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Layout& v = plan_.values[plan_.inputs[i]];
        const std::int64_t numbers = v.count() * batch;
        if (v.storage == Storage::u8 ? !inside<std::uint8_t>(inputs[i], numbers, v.lo, v.hi)
                                     : !inside<std::int16_t>(inputs[i], numbers, v.lo, v.hi))
            fail("input '" + plan_.specs[plan_.inputs[i]].name + "'",
                 "holds numbers outside " + std::to_string(v.lo) + ".." + std::to_string(v.hi));
    }
}

void Engine::run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs, std::int64_t batch,
                 int threads, bool keep) {
    check(inputs, outputs, batch, threads, keep);
    const int parts = static_cast<int>(std::min<std::int64_t>(batch, threads));
    const std::int64_t scratch = plan_.scratch_bytes * (parts > 1 ? 1 : threads);
    const Lease lease(*this, parts, (keep ? plan_.keep : plan_.shared).bytes + scratch);
    Call call{this, &inputs, &outputs, &lease, batch, parts, keep};
    if (parts > 1) {
        parallel(parts, Call::run, &call);
    } else {
        for (std::int64_t i = 0; i < batch; ++i)
            run_sample(call, lease.arena(0), i, threads);
    }
}

std::vector<Engine::Time> Engine::profile(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                                          int threads, int repeats) {
    check(inputs, outputs, 1, threads, false);
    if (repeats < 1 || repeats > MAX_REPEATS) fail("profile", "repeats outside 1.." + std::to_string(MAX_REPEATS));
    const Lease lease(*this, 1, plan_.shared.bytes + plan_.scratch_bytes * threads);
    const Call call{this, &inputs, &outputs, &lease, 1, 1, false};
    const Frame buffers = frame(call, lease.arena(0));
    Stopwatch watch(plan_.ops.size() + 2, repeats);
    for (int i = 0; i < repeats; ++i) {
        watch.start();
        take_inputs(call, buffers, 0);
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
