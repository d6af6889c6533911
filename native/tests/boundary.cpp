// Reals to stored integers and back, against their definition number by number: halves and their neighbours, denormals,
// huge numbers, any bits; arrays of exactly their length, so that the address sanitizer sees what lies beyond.
//
//   boundary ISA [ROWS]        exit code 77 (skipped) where this CPU cannot run the instruction set

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

#include "program.h"
#include "random_specs.h"
#include "subbyte/plan.h"

using namespace subbyte_tests;

namespace {

float any_bits() {
    const auto bits = static_cast<std::uint32_t>(pick(0, 0xFFFFFFFFLL));
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

float finite() {
    float x = any_bits();
    while (!std::isfinite(x))
        x = any_bits();
    return x;
}

float hard_real(float scale, std::int64_t reach) {
    if (chance(30)) return finite();
    const float half = (static_cast<float>(pick(-reach, reach)) + 0.5F) * scale;
    const float x = chance(30) ? half : std::nextafterf(half, chance(50) ? -INFINITY : INFINITY);
    return std::isfinite(x) ? x : -0.0F;
}

double defined(float x, const RealRow& row) {
    const float steps = std::nearbyintf(x / row.scale);
    return std::fmin(std::fmax(static_cast<double>(steps) + row.zero_point, row.lo), row.hi);
}

// `T` is the storage.
template <class T>
bool check(const Kernels& kernels) {
    const std::int64_t least = std::numeric_limits<T>::min();
    const std::int64_t most = std::numeric_limits<T>::max();
    const std::int64_t lo = chance(50) ? least : pick(least, most);
    const std::int64_t hi = chance(50) ? most : pick(lo, most);
    const std::int64_t zero = chance(50) ? pick(lo, hi) : pick(-65536, 65536);
    float scale = chance(50) ? 0.125F * static_cast<float>(pick(1, 99)) : std::fabs(finite());
    if (scale == 0) scale = std::numeric_limits<float>::denorm_min();
    const auto count = static_cast<std::size_t>(pick(1, 130));
    const auto x = std::make_unique<float[]>(count);
    const auto back = std::make_unique<float[]>(count);
    const auto q = std::make_unique<T[]>(count);
    for (std::size_t i = 0; i < count; ++i)
        x[i] = hard_real(scale, sizeof(T) == 1 ? 300 : 70000);
    const RealRow row{q.get(),
                      sizeof(T) == 2,
                      scale,
                      static_cast<std::int32_t>(zero),
                      static_cast<std::int32_t>(lo),
                      static_cast<std::int32_t>(hi)};
    if (!kernels.encode(x.get(), row, static_cast<std::int64_t>(count))) return false;
    kernels.decode(row, back.get(), static_cast<std::int64_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
        if (static_cast<double>(q[i]) != defined(x[i], row)) return false;
        const float real = static_cast<float>(q[i] - row.zero_point) * scale;
        if (std::memcmp(&real, &back[i], sizeof real) != 0) return false;
    }
    float& bad = x[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(count) - 1))];
    bad = chance(50) ? std::nanf("") : chance(50) ? INFINITY : -INFINITY;
    return !kernels.encode(x.get(), row, static_cast<std::int64_t>(count));
}

}  // namespace

int main(int argc, char** argv) {
    const auto [isa, rows, kernels] = asked_for(argc, argv, 5000);
    if (kernels == nullptr) return SKIPPED;
    for (int i = 0; i < rows; ++i) {
        generator.seed(static_cast<std::uint64_t>(i));
        if (check<std::uint8_t>(*kernels) && check<std::int16_t>(*kernels)) continue;
        std::printf("row %d differs on %s\n", i, isa.c_str());
        return 1;
    }
    std::printf("%s: %d rows\n", isa.c_str(), rows);
    return 0;
}
