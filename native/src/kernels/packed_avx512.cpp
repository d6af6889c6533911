// Packed weights on AVX-512 with VNNI.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/packed.h"

namespace subbyte {
namespace avx512_vnni {

using Vec = __m512i;
constexpr int BYTES = 64;
constexpr int VECTORS = 4;
constexpr bool ALWAYS_FITS = true;

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE inline __attribute__((always_inline))

static inline Vec load(const void* p) {
    return _mm512_loadu_si512(p);
}

static inline void store(void* p, Vec v) {
    _mm512_storeu_si512(p, v);
}

static inline Vec every(int byte) {
    return _mm512_set1_epi8(static_cast<char>(byte));
}

static inline Vec both(Vec a, Vec b) {
    return _mm512_and_si512(a, b);
}

static inline Vec either(Vec a, Vec b) {
    return _mm512_or_si512(a, b);
}

static inline Vec flip(Vec a, Vec b) {
    return _mm512_xor_si512(a, b);
}

template <int N>
static inline Vec down(Vec v) {
    return N == 0 ? v : _mm512_srli_epi16(v, N);
}

template <int N>
static inline Vec up(Vec v) {
    return _mm512_slli_epi16(v, N);
}

static inline Vec table(const std::int8_t* numbers) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers)));
}

static inline Vec lookup(Vec numbers, Vec index) {
    return _mm512_shuffle_epi8(numbers, index);
}

static inline Vec all(std::int32_t number) {
    return _mm512_set1_epi32(number);
}

static inline Vec add(Vec a, Vec b) {
    return _mm512_add_epi32(a, b);
}

static inline Vec scaled(Vec v, std::int32_t factor) {
    return _mm512_mullo_epi32(v, _mm512_set1_epi32(factor));
}

template <int N>
static inline Vec shifted(Vec v) {
    return _mm512_srli_epi32(v, N);
}

static inline void pin(Vec& v) {
    asm("" : "+v"(v));
}

static inline Vec four(const std::uint8_t* x) {
    std::int32_t word;
    std::memcpy(&word, x, 4);
    return _mm512_set1_epi32(word);
}

template <bool>
static inline Vec dot(Vec sum, Vec x, Vec w) {
    return _mm512_dpbusd_epi32(sum, x, w);
}

#include "packed.inc"
#include "thin.inc"

const PackedKernels PACKED = {VECTORS, unpack, thin};

}  // namespace avx512_vnni
}  // namespace subbyte
