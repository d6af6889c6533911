// Linear layers of every level count, deep and with worst-case numbers: sums that first fill int8, then int16, lanes to
// their proved limits. Results of every instruction set are the portable kernels'.
//
//   deep_sums ISA [LAYERS]        exit code 77 (skipped) where this CPU cannot run the instruction set

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "random_specs.h"
#include "subbyte/engine.h"

using namespace subbyte_tests;

namespace {

// Mostly one sign throughout, or the two ends at random.
enum class Fill { low, high, ends, any };

Fill random_fill() {
    return static_cast<Fill>(pick(0, 3));
}

std::int64_t number(Fill fill, std::int64_t lo, std::int64_t hi) {
    switch (fill) {
        case Fill::low:
            return lo;
        case Fill::high:
            return hi;
        case Fill::ends:
            return chance(50) ? lo : hi;
        case Fill::any:
            break;
    }
    return pick(lo, hi);
}

// Levels that networks use, with limits of int8 and int16 sums just passed or just missed, and any others.
void pick_levels(std::int64_t& most, std::int64_t& low, std::int64_t& high) {
    static const std::int64_t PAIRS[][3] = {{255, -128, 127}, {255, -127, 127}, {255, -64, 63}, {255, -8, 7},
                                            {15, -8, 7},      {15, -7, 7},      {30, -8, 8},    {16, -15, 15},
                                            {255, -1, 1},     {3, -1, 1},       {1, -1, 1},     {32, -8, 8}};
    const std::int64_t choice = pick(0, 15);
    if (choice < static_cast<std::int64_t>(std::size(PAIRS))) {
        most = PAIRS[choice][0];
        low = PAIRS[choice][1];
        high = PAIRS[choice][2];
    } else {
        most = pick(1, 255);
        low = pick(-128, 0);
        high = pick(0, 127);
    }
}

bool check(const Kernels& kernels) {
    std::int64_t most = 0, low = 0, high = 0;
    pick_levels(most, low, high);
    const std::int64_t depth = chance(50) ? pick(1, 70) : pick(1, 5000);
    const std::int64_t columns = pick(1, 40);
    const std::int64_t rows = pick(1, 9);
    Constants constants;
    PlanSpec plan;
    ValueSpec x;
    x.name = "x";
    x.shape = {rows, depth};
    x.lo = 0;
    x.hi = static_cast<std::int32_t>(most);
    x.zero_point = static_cast<std::int32_t>(pick(0, most));
    ValueSpec y;
    y.name = "y";
    y.shape = {rows, columns};
    y.storage = Storage::i16;
    y.lo = -32768;
    y.hi = 32767;
    OpSpec op;
    op.name = "linear";
    op.kind = "int_linear";
    op.inputs = {0};
    op.output = 1;
    op.attributes = {{"lo", {y.lo}}, {"hi", {y.hi}}};
    ArraySpec table = constants.i16({high - low + 1}, 0, 0);
    for (std::int64_t i = low; i <= high; ++i)
        (*constants.half.back())[static_cast<std::size_t>(i - low)] = static_cast<std::int16_t>(i);
    op.arrays["table"] = table;
    ArraySpec codes = constants.u8({columns, depth}, 0, 0);
    const bool same = chance(50);
    Fill fill = random_fill();
    for (std::size_t i = 0; i < constants.narrow.back()->size(); ++i) {
        if (!same && i % static_cast<std::size_t>(depth) == 0) fill = random_fill();
        (*constants.narrow.back())[i] = static_cast<std::uint8_t>(number(fill, 0, high - low));
    }
    op.arrays["codes"] = codes;
    op.arrays["weight_zero"] = constants.i32({columns}, 0, 0);
    op.arrays["bias"] = constants.i32({columns}, -5000, 5000);
    // Shifts that keep the low bits of small and of large sums in the result.
    op.arrays["m"] = constants.i32({columns}, 1 << 30, INT32_MAX);
    const std::int64_t shift = chance(50) ? pick(31, 34) : pick(35, 46);
    op.arrays["n"] = constants.i32({columns}, shift, shift + 1);
    plan.values = {x, y};
    plan.ops = {op};
    plan.inputs = {0};
    plan.outputs = {1};

    Bytes in(static_cast<std::size_t>(rows * depth));
    fill = random_fill();
    for (std::uint8_t& q : in)
        q = static_cast<std::uint8_t>(number(fill, 0, most));
    std::vector<std::int16_t> wanted(static_cast<std::size_t>(rows * columns)), got(wanted.size());
    Engine plain(build_plan(plan, *find_kernels("portable")));
    plan.packing = chance(30) ? Packing::packed : Packing::unpacked;
    Engine engine(build_plan(plan, kernels));
    plain.run({in.data()}, {wanted.data()}, 1, 1, false);
    engine.run({in.data()}, {got.data()}, 1, 1, false);
    if (got == wanted) return true;
    std::printf("activations 0..%lld, weights %lld..%lld, depth %lld, columns %lld, rows %lld differ\n",
                static_cast<long long>(most), static_cast<long long>(low), static_cast<long long>(high),
                static_cast<long long>(depth), static_cast<long long>(columns), static_cast<long long>(rows));
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string isa = argc > 1 ? argv[1] : "portable";
    const int layers = argc > 2 ? std::atoi(argv[2]) : 300;
    const Kernels* kernels = find_kernels(isa);
    if (kernels == nullptr) {
        std::printf("%s does not run on this CPU\n", isa.c_str());
        return 77;
    }
    for (int i = 0; i < layers; ++i) {
        generator.seed(static_cast<std::uint64_t>(i));
        if (check(*kernels)) continue;
        std::printf("layer %d differs on %s\n", i, isa.c_str());
        return 1;
    }
    std::printf("%s: %d layers\n", isa.c_str(), layers);
    return 0;
}
