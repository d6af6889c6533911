// Random small plans, legal and broken, under the sanitizers: whatever the builder accepts must run without touching a
// byte that is not its own, give the portable kernels' integers, and give them again from the shared arena.
//
//   random_plans ISA [PLANS]        exit code 77 (skipped) where this CPU cannot run the instruction set

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "layout.h"
#include "program.h"
#include "random_runs.h"
#include "subbyte/engine.h"

using namespace subbyte_tests;

namespace {

// What a caller sees of a value as reals: float32, or positions as int64.
Bytes reals_of(const Layout& v, const Bytes& numbers) {
    const auto size = static_cast<std::size_t>(storage_bytes(v.storage));
    const std::size_t wide = v.position ? sizeof(std::int64_t) : sizeof(float);
    Bytes reals(numbers.size() / size * wide);
    for (std::size_t i = 0; i < numbers.size() / size; ++i) {
        std::int16_t q = numbers[i * size];
        if (size == 2) std::memcpy(&q, &numbers[2 * i], 2);
        const std::int64_t position = q;
        const float real = v.scale * static_cast<float>(q - v.zero_point);
        std::memcpy(&reals[i * wide], v.position ? static_cast<const void*>(&position) : &real, wide);
    }
    return reals;
}

// Every value in a heap block of exactly its bytes and, where operators read behind it, the slack that they may read,
// so that the address sanitizer sees any byte beyond; two shares one after the other, as two threads would.
void run_guarded(const Plan& plan) {
    std::vector<std::unique_ptr<std::uint8_t[]>> blocks(plan.values.size());
    std::vector<std::uint8_t*> places(plan.values.size());
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
        const Layout& v = plan.values[i];
        const auto bytes = static_cast<std::size_t>(v.bytes + (v.outside ? 0 : READ_SLACK));
        if (v.root == i) blocks[i] = std::make_unique<std::uint8_t[]>(bytes);
        const Layout& root = plan.values[v.root];
        places[i] = blocks[v.root].get() + root.origin;
    }
    Frame frame{places.data(), nullptr, 0};
    for (const std::size_t i : plan.inputs)
        fill_border(plan.values[i], frame.at(i));
    for (const auto& op : plan.ops) {
        fill_border(plan.values[op->output], frame.at(op->output));
        const auto scratch = std::make_unique<std::uint8_t[]>(static_cast<std::size_t>(op->scratch_bytes));
        frame.scratches = scratch.get();  // the same for both shares, which do not run at once
        for (int part = 0; part < 2; ++part)
            op->run(frame, Part{part, 2});
    }
}

// The same plan with every knob turned at random, one after the other: the ways of a knob may depend on earlier ones.
PlanSpec turned(PlanSpec spec, const Kernels& kernels) {
    for (bool more = true; more;) {
        more = false;
        const Plan plan = build_plan(spec, kernels);
        for (std::size_t i = 0; i < spec.ops.size(); ++i) {
            auto& choices = spec.ops[i].choices;
            for (const Knob& knob : plan.ops[i]->knobs) {
                if (choices.count(knob.name) != 0) continue;
                const std::int64_t way = pick(0, static_cast<std::int64_t>(knob.ways.size()) - 1);
                choices[knob.name] = knob.ways[static_cast<std::size_t>(way)];
                more = true;
                break;
            }
        }
    }
    return spec;
}

bool check(PlanSpec spec, const Kernels& kernels) {
    spec.packing = Packing::unpacked;
    Engine plain(build_plan(spec, *find_kernels("portable")));
    spec.packing = chance(70) ? Packing::packed : Packing::unpacked;
    Engine engine(build_plan(spec, kernels));
    const std::int64_t batch = pick(1, 3);
    std::vector<Bytes> inputs;
    for (const std::size_t i : plain.plan().inputs)
        inputs.push_back(contents(plain.plan().values[i], batch));
    const std::vector<Bytes> all = run(plain, inputs, batch, 1, true);
    std::vector<Bytes> wanted;
    for (const std::size_t v : plain.plan().outputs)
        wanted.push_back(all[v]);
    std::vector<Bytes> inputs_reals;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        inputs_reals.push_back(reals_of(plain.plan().values[plain.plan().inputs[i]], inputs[i]));
    std::vector<Bytes> all_reals;
    for (std::size_t v = 0; v < all.size(); ++v)
        all_reals.push_back(reals_of(plain.plan().values[v], all[v]));
    const auto agrees = [&](Engine& other) {
        run_guarded(other.plan());
        return run(other, inputs, batch, 2, true) == all && run(other, inputs, batch, 1, false) == wanted &&
               run(other, inputs, batch, 2, false) == wanted &&
               run(other, inputs_reals, batch, 2, true, true) == all_reals;
    };
    Engine other(build_plan(turned(spec, kernels), kernels));
    return agrees(engine) && agrees(other);
}

}  // namespace

int main(int argc, char** argv) {
    const auto [isa, plans, kernels] = asked_for(argc, argv, 300);
    if (kernels == nullptr) return SKIPPED;
    int accepted = 0;
    int refused = 0;
    for (int i = 0; i < plans; ++i) {
        generator.seed(static_cast<std::uint64_t>(i));
        Constants constants;
        const PlanSpec plan = grown(constants, *kernels, accepted, refused);
        if (!check(plan, *kernels)) {
            std::printf("plan %d differs on %s\n", i, isa.c_str());
            for (const OpSpec& op : plan.ops)
                std::printf("  %s %s\n", op.name.c_str(), op.kind.c_str());
            return 1;
        }
    }
    std::printf("%s: %d plans, %d operators accepted, %d refused\n", isa.c_str(), plans, accepted, refused);
    return accepted > 2 * plans && refused > plans ? 0 : 1;
}
