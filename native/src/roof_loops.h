// The least instructions of a piece of work, operands in registers or in the first cache: no core does it any faster.
// Included by roofs.cpp and by benchmarks/roofs.cpp.
//
// Assembly keeps the compiler from moving, merging or dropping an instruction; sums are independent, and there are
// enough of them to hide the latency.
#pragma once

namespace subbyte {
namespace roof_loops {

constexpr int SUMS = 12;
#define SUBBYTE_EACH_SUM(step) \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)

}  // namespace roof_loops
}  // namespace subbyte

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace subbyte {
namespace roof_loops {

// Adding it to a small float rounds it to an integer, which is then the difference of the bits.
constexpr float ROUNDER = 12582912.0F;  // 1.5 * 2^23
constexpr std::int32_t ROUNDER_BITS = 0x4B400000;

// What is done `times` times: `groups` times twelve products of vectors, then, with RESCALED, four vectors of sums
// become stored bytes: to float, one multiply-add per channel, rounded, saturated twice.
struct Steps {
    int times;
    int groups;
};

#define SUBBYTE_RESCALED(reg, sums, t, scale, zero, bits)                                           \
    asm volatile("vcvtdq2ps %4, %0\n vcvtdq2ps %5, %1\n vcvtdq2ps %6, %2\n vcvtdq2ps %7, %3\n"      \
                 "vfmadd213ps %9, %8, %0\n vfmadd213ps %9, %8, %1\n vfmadd213ps %9, %8, %2\n"       \
                 "vfmadd213ps %9, %8, %3\n vpsubd %10, %0, %0\n vpsubd %10, %1, %1\n vpsubd %10, %2, %2\n"\
                 "vpsubd %10, %3, %3\n vpackssdw %1, %0, %0\n vpackssdw %3, %2, %2\n vpackuswb %2, %0, %0"\
                 : "=&" reg(t[0]), "=&" reg(t[1]), "=&" reg(t[2]), "=&" reg(t[3])                   \
                 : reg(sums[0]), reg(sums[1]), reg(sums[2]), reg(sums[3]), reg(scale), reg(zero), reg(bits))
#define SUBBYTE_RESCALE(size, reg, sums, t, scale, zero, bits, to)                                  \
    do {                                                                                            \
        SUBBYTE_RESCALED(reg, sums, t, scale, zero, bits);                                          \
        asm volatile("vmovdqu" size " %1, %0" : "=m"(to) : reg(t[0]));                              \
    } while (false)

// Exact only where a pair of products fits 16 bits: the fastest int8 product of AVX2.
#define SUBBYTE_MADDUBS_MADDWD(j)                             \
    asm volatile("vpmaddubsw %1, %1, %0" : "=x"(p) : "x"(x)); \
    asm volatile("vpmaddwd %1, %0, %0" : "+x"(p) : "x"(x));   \
    asm volatile("vpaddd %1, %0, %0" : "+x"(sums[j]) : "x"(p));
// Where sums of many products fit 16 bits.
#define SUBBYTE_MADDUBS_ADDW(j)                               \
    asm volatile("vpmaddubsw %1, %1, %0" : "=x"(p) : "x"(x)); \
    asm volatile("vpaddw %1, %0, %0" : "+x"(sums[j]) : "x"(p));
#define SUBBYTE_MADDUBS_MADDWD_512(j)                         \
    asm volatile("vpmaddubsw %1, %1, %0" : "=v"(p) : "v"(x)); \
    asm volatile("vpmaddwd %1, %0, %0" : "+v"(p) : "v"(x));   \
    asm volatile("vpaddd %1, %0, %0" : "+v"(sums[j]) : "v"(p));
// Where two products may leave 16 bits, weights are 16 * high + low: products of both halves, each with sums of its own.
#define SUBBYTE_WIDE(reg, half, j)                                                                               \
    asm volatile("vpmaddubsw %2, %2, %0\n vpmaddubsw %2, %2, %1" : "=&" reg(p), "=&" reg(half) : reg(x));        \
    asm volatile("vpaddw %1, %0, %0" : "+" reg(sums[j]) : reg(p));                                               \
    asm volatile("vpaddw %1, %0, %0" : "+" reg(sums[(j + 1) % SUMS]) : reg(half));
#define SUBBYTE_WIDE_256(j) SUBBYTE_WIDE("x", t[0], j)
#define SUBBYTE_WIDE_512(j) SUBBYTE_WIDE("v", t[0], j)
#define SUBBYTE_VPDPBUSD(j) asm volatile("vpdpbusd %1, %1, %0" : "+v"(sums[j]) : "v"(x));

#define SUBBYTE_DOTS_256(name, product)                                                              \
    template <bool RESCALED>                                                                         \
    __attribute__((target("avx2,fma"))) void name(Steps steps) {                                     \
        __m256i sums[SUMS] = {};                                                                     \
        __m256i p = {};                                                                              \
        __m256i t[4];                                                                                \
        __m256i stored;                                                                              \
        const __m256i x = _mm256_set1_epi8(1);                                                       \
        const __m256 scale = _mm256_set1_ps(0.001F);                                                 \
        const __m256 zero = _mm256_set1_ps(ROUNDER);                                                 \
        const __m256i bits = _mm256_set1_epi32(ROUNDER_BITS);                                        \
        for (int i = 0; i < steps.times; ++i) {                                                      \
            for (int group = 0; group < steps.groups; ++group) {                                     \
                SUBBYTE_EACH_SUM(product)                                                            \
            }                                                                                        \
            if (RESCALED) SUBBYTE_RESCALE("", "x", sums, t, scale, zero, bits, stored);                   \
        }                                                                                            \
        static_cast<void>(p);                                                                        \
    }
SUBBYTE_DOTS_256(maddubs_maddwd_256, SUBBYTE_MADDUBS_MADDWD)
SUBBYTE_DOTS_256(maddubs_addw_256, SUBBYTE_MADDUBS_ADDW)
SUBBYTE_DOTS_256(wide_256, SUBBYTE_WIDE_256)

#define SUBBYTE_DOTS_512(name, isa, product)                                                         \
    template <bool RESCALED>                                                                         \
    __attribute__((target(isa))) void name(Steps steps) {                                            \
        __m512i sums[SUMS] = {};                                                                     \
        __m512i p = {};                                                                              \
        __m512i t[4];                                                                                \
        __m512i stored;                                                                              \
        const __m512i x = _mm512_set1_epi8(1);                                                       \
        const __m512 scale = _mm512_set1_ps(0.001F);                                                 \
        const __m512 zero = _mm512_set1_ps(ROUNDER);                                                 \
        const __m512i bits = _mm512_set1_epi32(ROUNDER_BITS);                                        \
        for (int i = 0; i < steps.times; ++i) {                                                      \
            for (int group = 0; group < steps.groups; ++group) {                                     \
                SUBBYTE_EACH_SUM(product)                                                            \
            }                                                                                        \
            if (RESCALED) SUBBYTE_RESCALE("64", "v", sums, t, scale, zero, bits, stored);                 \
        }                                                                                            \
        static_cast<void>(p);                                                                        \
    }
SUBBYTE_DOTS_512(maddubs_maddwd_512, "avx512f,avx512bw", SUBBYTE_MADDUBS_MADDWD_512)
SUBBYTE_DOTS_512(wide_512, "avx512f,avx512bw", SUBBYTE_WIDE_512)
SUBBYTE_DOTS_512(vpdpbusd_512, "avx512f,avx512bw,avx512vnni", SUBBYTE_VPDPBUSD)

// A 3x3 depthwise convolution with a stride of 1, two rows of results at a time: four rows of bytes are interleaved to
// dwords, which meet three columns of weights for either row of results. Weights, which a core may keep in registers
// for one quarter of the channels, count as kept; the bias counts as part of the rescale.

constexpr std::size_t ROW = 2048;  // bytes of one of the four rows
using Rows = std::uint8_t[6][ROW];  // and of two rows of results

// Multiply-accumulates done.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) inline double depthwise_512(Rows& rows) {
    const __m512 scale = _mm512_set1_ps(0.001F);
    const __m512 zero = _mm512_set1_ps(ROUNDER);
    const __m512i bits = _mm512_set1_epi32(ROUNDER_BITS);
    __m512i w[2][3];
    for (int i = 0; i < 6; ++i)
        w[i / 3][i % 3] = _mm512_set1_epi8(static_cast<char>(i));
    __m512i c[3][4] = {};
    const auto at = [&](int row, std::size_t byte) { return reinterpret_cast<__m512i*>(rows[row] + byte); };
    std::size_t byte = 0;
    for (; byte + 3 * 64 <= ROW; byte += 3 * 64) {
#pragma GCC unroll 3
        for (std::size_t k = 0; k < 3; ++k) {  // the newest of three columns
            const std::size_t here = byte + 64 * k;
            const __m512i x[4] = {*at(0, here), *at(1, here), *at(2, here), *at(3, here)};
            const __m512i lo[2] = {_mm512_unpacklo_epi8(x[0], x[1]), _mm512_unpacklo_epi8(x[2], x[3])};
            const __m512i hi[2] = {_mm512_unpackhi_epi8(x[0], x[1]), _mm512_unpackhi_epi8(x[2], x[3])};
            c[k][0] = _mm512_unpacklo_epi16(lo[0], lo[1]);
            c[k][1] = _mm512_unpackhi_epi16(lo[0], lo[1]);
            c[k][2] = _mm512_unpacklo_epi16(hi[0], hi[1]);
            c[k][3] = _mm512_unpackhi_epi16(hi[0], hi[1]);
            __m512i sums[2][4];
#pragma GCC unroll 4
            for (int q = 0; q < 4; ++q) {
#pragma GCC unroll 2
                for (int row = 0; row < 2; ++row) {
                    __m512i s = _mm512_dpbusd_epi32(_mm512_setzero_si512(), c[(k + 1) % 3][q], w[row][0]);
                    s = _mm512_dpbusd_epi32(s, c[(k + 2) % 3][q], w[row][1]);
                    s = _mm512_dpbusd_epi32(s, c[k][q], w[row][2]);
                    sums[row][q] = s;
                }
            }
            for (int row = 0; row < 2; ++row) {
                __m512i t[4];
                SUBBYTE_RESCALE("64", "v", sums[row], t, scale, zero, bits, *at(4 + row, here));
            }
        }
    }
    return 2.0 * 9 * static_cast<double>(byte);
}

// Up to sixteen channels that 64 leave over: what a vector would hold of them lies at four pixels, and so do results.
// Four rows of a pixel are loaded as one vector, which a single shuffle brings into order; four pixels are packed and
// stored together. Multiply-accumulates done.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) inline double depthwise_pieces_512(Rows& rows) {
    constexpr std::size_t PITCH = 80;  // of pixels
    const __m512 scale = _mm512_set1_ps(0.001F);
    const __m512 zero = _mm512_set1_ps(ROUNDER);
    const __m512i bits = _mm512_set1_epi32(ROUNDER_BITS);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i w[2][3];
    for (int i = 0; i < 6; ++i)
        w[i / 3][i % 3] = _mm512_set1_epi8(static_cast<char>(i));
    const auto at = [&](int row, std::size_t byte) { return reinterpret_cast<__m128i*>(rows[row] + byte); };
    __m512i c[6] = {};
    double pixels = 0;
    for (std::size_t step = 0; step < 4 * (ROW / PITCH / 4); ++step, pixels += 4) {  // several times, to hide the start
        const std::size_t byte = step % (ROW / PITCH / 4) * 4 * PITCH;
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            const std::size_t here = byte + i * PITCH;
            const __m256i ab = _mm256_inserti128_si256(_mm256_castsi128_si256(*at(0, here)), *at(1, here), 1);
            const __m256i cd = _mm256_inserti128_si256(_mm256_castsi128_si256(*at(2, here)), *at(3, here), 1);
            c[2 + i] = _mm512_permutex2var_epi32(_mm512_castsi256_si512(ab), order, _mm512_castsi256_si512(cd));
        }
#pragma GCC unroll 2
        for (int row = 0; row < 2; ++row) {
            __m512i sums[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) {
                sums[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), c[i], w[row][0]);
                sums[i] = _mm512_dpbusd_epi32(sums[i], c[i + 1], w[row][1]);
                sums[i] = _mm512_dpbusd_epi32(sums[i], c[i + 2], w[row][2]);
            }
            __m512i t[4];
            SUBBYTE_RESCALED("x", sums, t, scale, zero, bits);
            asm volatile(
                "vpermd %0, %5, %0\n vmovdqu %x0, %1\n vextracti128 $1, %t0, %2\n"
                "vextracti64x4 $1, %0, %t0\n vmovdqu %x0, %3\n vextracti128 $1, %t0, %4"
                : "+x"(t[0]), "=m"(*at(4 + row, byte)), "=m"(*at(4 + row, byte + PITCH)),
                  "=m"(*at(4 + row, byte + 2 * PITCH)), "=m"(*at(4 + row, byte + 3 * PITCH))
                : "x"(order));
        }
        c[0] = c[4];
        c[1] = c[5];
    }
    return 2 * 9 * 16 * pixels;
}

// Nine products of a channel summed in 16 bits; where not all weights allow that, both halves of weights, w = 16 * high +
// low, which are joined in one vpmaddwd.
template <bool WIDE>
__attribute__((target("avx2,fma"))) double depthwise_256(Rows& rows) {
    const __m256 scale = _mm256_set1_ps(0.001F);
    const __m256 zero = _mm256_set1_ps(ROUNDER);
    const __m256i bits = _mm256_set1_epi32(ROUNDER_BITS);
    const __m256i halves = _mm256_set1_epi32(16 << 16 | 1);
    __m256i w[4];
    for (int i = 0; i < 4; ++i)
        w[i] = _mm256_set1_epi8(static_cast<char>(i));
    __m256i c[3][2][2] = {};  // [column][rows 0 and 1, 2 and 3][half of the channels]
    const auto at = [&](int row, std::size_t byte) { return reinterpret_cast<__m256i*>(rows[row] + byte); };
    std::size_t byte = 0;
    for (; byte + 3 * 32 <= ROW; byte += 3 * 32) {
#pragma GCC unroll 3
        for (std::size_t k = 0; k < 3; ++k) {
            const std::size_t here = byte + 32 * k;
#pragma GCC unroll 2
            for (int pair = 0; pair < 2; ++pair) {
                const __m256i x[2] = {*at(2 * pair, here), *at(2 * pair + 1, here)};
                c[k][pair][0] = _mm256_unpacklo_epi8(x[0], x[1]);
                c[k][pair][1] = _mm256_unpackhi_epi8(x[0], x[1]);
            }
#pragma GCC unroll 2
            for (int row = 0; row < 2; ++row) {
                __m256i sums[4];
#pragma GCC unroll 2
                for (int half = 0; half < 2; ++half) {
                    __m256i words = _mm256_maddubs_epi16(c[(k + 1) % 3][0][half], w[row]);
                    __m256i high = _mm256_maddubs_epi16(c[(k + 1) % 3][0][half], w[3 - row]);
#pragma GCC unroll 5
                    for (std::size_t i = 1; i < 6; ++i) {
                        const __m256i x = c[(k + 1 + i / 2) % 3][i % 2][half];
                        words = _mm256_add_epi16(words, _mm256_maddubs_epi16(x, w[(row + i) % 4]));
                        if (WIDE) high = _mm256_add_epi16(high, _mm256_maddubs_epi16(x, w[(row + i + 1) % 4]));
                    }
                    if (WIDE) {
                        sums[2 * half] = _mm256_madd_epi16(_mm256_unpacklo_epi16(words, high), halves);
                        sums[2 * half + 1] = _mm256_madd_epi16(_mm256_unpackhi_epi16(words, high), halves);
                        continue;
                    }
                    sums[2 * half] = _mm256_srai_epi32(_mm256_unpacklo_epi16(words, words), 16);
                    sums[2 * half + 1] = _mm256_srai_epi32(_mm256_unpackhi_epi16(words, words), 16);
                }
                __m256i t[4];
                SUBBYTE_RESCALE("", "x", sums, t, scale, zero, bits, *at(4 + row, here));
            }
        }
    }
    return 2.0 * 9 * static_cast<double>(byte);
}

// Nanoseconds of the fastest of several rounds.
template <class Work>
double fastest(int rounds, Work work) {
    double best = 1e18;
    for (int round = 0; round < rounds; ++round) {
        const auto begin = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
        best = std::min(best, spent.count());
    }
    return best;
}

constexpr int GROUPS = 4096;  // in one round

// Multiply-accumulates of bytes per nanosecond.
template <int BYTES>
double dot_rate(void (*dots)(Steps), int rounds) {
    return double{SUMS} * BYTES * GROUPS / fastest(rounds, [&] { dots({1, GROUPS}); });
}

// Rescaled results per nanosecond, nothing else done.
template <int BYTES>
double rescale_rate(void (*rescaled)(Steps), int rounds) {
    return double{BYTES} * GROUPS / fastest(rounds, [&] { rescaled({GROUPS, 0}); });
}

// The same beside products: by how much rescales make them slower, which is less than a rescale alone takes where the
// two need different units. The best of several shares; never less than alone, since both could follow each other.
template <int BYTES>
double rescale_rate_beside(void (*dots)(Steps), void (*rescaled)(Steps), int rounds) {
    double best = rescale_rate<BYTES>(rescaled, rounds);
    for (const int groups : {3, 6, 12}) {
        const Steps steps{GROUPS / groups, groups};
        double without = 1e18;
        double with = 1e18;
        for (int round = 0; round < rounds; ++round) {  // by turns, at the same clock
            without = std::min(without, fastest(1, [&] { dots(steps); }));
            with = std::min(with, fastest(1, [&] { rescaled(steps); }));
        }
        best = std::max(best, double{BYTES} * steps.times / std::max(with - without, 1.0));
    }
    return best;
}

// Multiply-accumulates per nanosecond, rescales included.
inline double depthwise_rate(double (*depthwise)(Rows&), int rounds) {
    constexpr int PASSES = 20;
    alignas(64) static Rows rows;
    double count = 0;
    const double spent = fastest(rounds, [&] {
        for (int pass = 0; pass < PASSES; ++pass)
            count = depthwise(rows);
    });
    return PASSES * count / spent;
}

}  // namespace roof_loops
}  // namespace subbyte
#endif
