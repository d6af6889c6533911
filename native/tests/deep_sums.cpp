// Linear layers of every level count, deep and with worst-case numbers, and depthwise convolutions: sums that first fill
// int8, then int16, lanes to their proved limits. Results of every instruction set are the portable kernels'.
//
//   deep_sums ISA [LAYERS]        exit code 77 (skipped) where this CPU cannot run the instruction set

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "program.h"
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

// One layer from x to 16-bit y, without its weights.
class Layer {
public:
    Layer(const char* kind, Dims in, Dims out, std::int64_t most) : columns_(out.back()) {
        ValueSpec x;
        x.name = "x";
        x.shape = std::move(in);
        x.hi = static_cast<std::int32_t>(most);
        x.zero_point = static_cast<std::int32_t>(pick(0, most));
        ValueSpec y;
        y.name = "y";
        y.shape = std::move(out);
        y.storage = Storage::i16;
        y.lo = -32768;
        y.hi = 32767;
        op_.name = kind;
        op_.kind = kind;
        op_.inputs = {0};
        op_.output = 1;
        op_.attributes = {{"lo", {y.lo}}, {"hi", {y.hi}}, {"pre_shift", {0}}};
        op_.arrays["weight_zero"] = constants_.i32({columns_}, 0, 0);
        op_.arrays["bias"] = constants_.i32({columns_}, -5000, 5000);
        // Shifts that keep the low bits of small and of large sums in the result.
        op_.arrays["m"] = constants_.i32({columns_}, 1 << 30, INT32_MAX);
        const std::int64_t shift = chance(50) ? pick(31, 34) : pick(35, 46);
        op_.arrays["n"] = constants_.i32({columns_}, shift, shift + 1);
        plan_.values = {x, y};
        plan_.inputs = {0};
        plan_.outputs = {1};
    }

    OpSpec& op() { return op_; }

    // Numbers low..high, of which `number` gives one after the other, first those of the first column.
    template <class F>
    void weights(const Dims& shape, std::int64_t low, std::int64_t high, F number) {
        op_.arrays["table"] = constants_.i16({high - low + 1}, 0, 0);
        for (std::int64_t i = low; i <= high; ++i)
            (*constants_.half.back())[static_cast<std::size_t>(i - low)] = static_cast<std::int16_t>(i);
        op_.arrays["codes"] = constants_.u8(shape, 0, 0);
        for (std::uint8_t& code : *constants_.narrow.back())
            code = static_cast<std::uint8_t>(number() - low);
    }

    bool agrees(const Kernels& kernels) {
        plan_.ops = {op_};
        const auto count = [](const Dims& shape) {
            std::int64_t n = 1;
            for (const std::int64_t d : shape)
                n *= d;
            return static_cast<std::size_t>(n);
        };
        const ValueSpec& x = plan_.values[0];
        Bytes in(count(x.shape));
        const Fill fill = random_fill();
        for (std::uint8_t& q : in)
            q = static_cast<std::uint8_t>(number(fill, 0, x.hi));
        std::vector<std::int16_t> wanted(count(plan_.values[1].shape)), got(wanted.size());
        Engine plain(build_plan(plan_, *find_kernels("portable")));
        plan_.packing = chance(30) ? Packing::packed : Packing::unpacked;
        Engine engine(build_plan(plan_, kernels));
        plain.run({Source{in.data()}}, {Target{wanted.data()}}, 1, 1, false);
        engine.run({Source{in.data()}}, {Target{got.data()}}, 1, 1, false);
        if (got == wanted) return true;
        std::printf("%s with activations 0..%s differs\n", op_.kind.c_str(), std::to_string(x.hi).c_str());
        return false;
    }

private:
    std::int64_t columns_;
    Constants constants_;
    PlanSpec plan_;
    OpSpec op_;
};

bool check_linear(const Kernels& kernels) {
    std::int64_t most = 0, low = 0, high = 0;
    pick_levels(most, low, high);
    const std::int64_t depth = chance(50) ? pick(1, 70) : pick(1, 5000);
    const std::int64_t columns = pick(1, 40);
    const std::int64_t rows = pick(1, 9);
    Layer layer("int_linear", {rows, depth}, {rows, columns}, most);
    const bool same = chance(50);
    Fill fill = random_fill();
    std::int64_t done = 0;
    layer.weights({columns, depth}, low, high, [&] {
        if (!same && done++ % depth == 0) fill = random_fill();
        return number(fill, low, high);
    });
    return layer.agrees(kernels);
}

// 3x3 depthwise: nine weights of one sign whose sum is just about what int16 holds times the largest activation, or the
// largest signed one.
bool check_depthwise(const Kernels& kernels) {
    const std::int64_t most = chance(50) ? 255 : pick(100, 255);
    const std::int64_t channels = pick(1, 70);
    const std::int64_t size = pick(3, 6);
    Layer layer("int_conv", {size, size, channels}, {size - 2, size - 2, channels}, most);
    layer.op().attributes["stride"] = {1, 1};
    layer.op().attributes["dilation"] = {1, 1};
    layer.op().attributes["padding"] = {0, 0, 0, 0};
    layer.op().attributes["groups"] = {channels};
    const std::int64_t sum = 32768 / (chance(50) ? most : (most + 1) / 2) + pick(-2, 2);
    const std::int64_t sign = chance(50) ? 1 : -1;
    std::int64_t place = 0;
    std::int64_t left = 0;
    layer.weights({channels, 3, 3, 1}, -127, 127, [&] {
        if (place % 9 == 0) left = sum;
        const std::int64_t magnitude = left / (9 - place++ % 9);
        left -= magnitude;
        return sign * magnitude;
    });
    return layer.agrees(kernels);
}

}  // namespace

int main(int argc, char** argv) {
    const auto [isa, layers, kernels] = asked_for(argc, argv, 300);
    if (kernels == nullptr) return SKIPPED;
    for (int i = 0; i < layers; ++i) {
        generator.seed(static_cast<std::uint64_t>(i));
        if (chance(70) ? check_linear(*kernels) : check_depthwise(*kernels)) continue;
        std::printf("layer %d differs on %s\n", i, isa.c_str());
        return 1;
    }
    std::printf("%s: %d layers\n", isa.c_str(), layers);
    return 0;
}
