// One plan run by several threads at once, each with its own inputs, batch and number of threads to share it among: always
// the integers of one thread alone. Meant for the thread sanitizer, which sees what goes well by luck.
//
//   shared_plans ISA [RUNS]        exit code 77 (skipped) where this CPU cannot run the instruction set

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "program.h"
#include "random_runs.h"
#include "subbyte/engine.h"

using namespace subbyte_tests;

namespace {

constexpr int PLANS = 6;
constexpr int CALLERS = 8;

struct Caller {
    std::vector<Bytes> inputs;
    std::int64_t batch;
    int threads;
    bool keep;
    std::vector<Bytes> wanted;
};

// Callers that differ in everything; what they should see comes from an engine of their own.
std::vector<Caller> make_callers(const PlanSpec& spec, const Kernels& kernels) {
    Engine alone(build_plan(spec, kernels));
    std::vector<Caller> callers(CALLERS);
    for (Caller& caller : callers) {
        caller.batch = pick(1, 3);
        caller.threads = static_cast<int>(pick(1, 3));
        caller.keep = chance(20);
        for (const std::size_t i : alone.plan().inputs)
            caller.inputs.push_back(contents(alone.plan().values[i], caller.batch));
        caller.wanted = run(alone, caller.inputs, caller.batch, 1, caller.keep);
    }
    return callers;
}

bool agree(const PlanSpec& spec, const Kernels& kernels, int runs) {
    const std::vector<Caller> callers = make_callers(spec, kernels);
    Engine engine(build_plan(spec, kernels));
    std::atomic<bool> good{true};
    std::vector<std::thread> threads;
    for (const Caller& caller : callers) {
        threads.emplace_back([&engine, &caller, &good, runs] {
            for (int i = 0; i < runs; ++i) {
                if (run(engine, caller.inputs, caller.batch, caller.threads, caller.keep) != caller.wanted)
                    good.store(false);
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    return good.load();
}

}  // namespace

int main(int argc, char** argv) {
    const auto [isa, runs, kernels] = asked_for(argc, argv, 300);
    if (kernels == nullptr) return SKIPPED;
    int accepted = 0;
    int refused = 0;
    for (int i = 0; i < PLANS; ++i) {
        generator.seed(static_cast<std::uint64_t>(i));
        Constants constants;
        const PlanSpec plan = grown(constants, *kernels, accepted, refused);
        if (!agree(plan, *kernels, runs)) {
            std::printf("plan %d differs on %s\n", i, isa.c_str());
            return 1;
        }
    }
    std::printf("%s: %d plans of %d operators, %d threads, %d runs each\n", isa.c_str(), PLANS, accepted, CALLERS, runs);
    return accepted > PLANS ? 0 : 1;
}
