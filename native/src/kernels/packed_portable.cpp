// Packed weights in plain C++: vectors are arrays of bytes.

#include <cstdint>
#include <cstring>

#include "kernels/packed.h"

namespace subbyte {
namespace portable {

constexpr int BYTES = 32;

struct Vec {
    std::uint8_t byte[BYTES];
};

template <class F>
static inline Vec each(F f) {
    Vec v;
    for (int i = 0; i < BYTES; ++i)
        v.byte[i] = static_cast<std::uint8_t>(f(i));
    return v;
}

static inline Vec load(const void* p) {
    Vec v;
    std::memcpy(v.byte, p, BYTES);
    return v;
}

static inline void store(void* p, const Vec& v) {
    std::memcpy(p, v.byte, BYTES);
}

static inline Vec every(int byte) {
    return each([=](int) { return byte; });
}

static inline Vec both(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.byte[i] & b.byte[i]; });
}

static inline Vec either(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.byte[i] | b.byte[i]; });
}

static inline Vec flip(const Vec& a, const Vec& b) {
    return each([&](int i) { return a.byte[i] ^ b.byte[i]; });
}

// What 16-bit shifts bring in from the neighbouring byte is masked out afterwards, so bytes may shift alone.
template <int N>
static inline Vec down(const Vec& v) {
    return each([&](int i) { return v.byte[i] >> N; });
}

template <int N>
static inline Vec up(const Vec& v) {
    return each([&](int i) { return v.byte[i] << N; });
}

static inline Vec table(const std::int8_t* numbers) {
    return each([=](int i) { return numbers[i % 16]; });
}

static inline Vec lookup(const Vec& numbers, const Vec& index) {
    return each([&](int i) { return (index.byte[i] & 0x80) != 0 ? 0 : numbers.byte[index.byte[i] & 15]; });
}

#include "packed.inc"

const PackedKernels PACKED = {1, unpack, nullptr};

}  // namespace portable
}  // namespace subbyte
