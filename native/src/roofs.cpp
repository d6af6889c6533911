#include "subbyte/roofs.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "attributes.h"
#include "stopwatch.h"
#include "subbyte/plan.h"

#ifdef SUBBYTE_X86_KERNELS
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace subbyte {
namespace {

constexpr int STEPS = 4096;
constexpr int ROUNDS = 300;

// Independent sums, enough to hide the latency of an instruction.
#define EACH_SUM(step) \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)
constexpr int SUMS = 12;

// Keeps the sums of a loop alive, so that the loop is.
template <class T>
void keep(const T& value) {
#if defined(__GNUC__)
    asm volatile("" : : "m"(value) : "memory");
#else
    static const volatile void* kept;
    kept = &value;
#endif
}

// Plain C++, in the vectors that every CPU of the kind has.
double portable_macs() {
    constexpr int LANES = 64;
    std::int32_t sums[LANES] = {};
    std::int16_t a[LANES];
    std::fill(a, a + LANES, std::int16_t{1});
    keep(a);
    for (int step = 0; step < STEPS; ++step) {
        for (int i = 0; i < LANES; ++i)
            sums[i] += a[i] * a[i];
    }
    keep(sums);
    return double{LANES} * STEPS;
}

#ifdef SUBBYTE_X86_KERNELS
// Assembly keeps the compiler from moving, merging or dropping an instruction.
__attribute__((target("avx2"))) double avx2_macs() {
    __m256i sums[SUMS] = {};
    const __m256i x = _mm256_set1_epi8(1);
    __m256i p;
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j)                                               \
    asm volatile("vpmaddubsw %1, %1, %0" : "=x"(p) : "x"(x)); \
    asm volatile("vpmaddwd %1, %0, %0" : "+x"(p) : "x"(x));   \
    asm volatile("vpaddd %1, %0, %0" : "+x"(sums[j]) : "x"(p));
        EACH_SUM(STEP)
#undef STEP
    }
    return double{SUMS} * 32 * STEPS;
}

__attribute__((target("avx512f,avx512bw"))) double avx512bw_macs() {
    __m512i sums[SUMS] = {};
    const __m512i x = _mm512_set1_epi8(1);
    __m512i p;
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j)                                               \
    asm volatile("vpmaddubsw %1, %1, %0" : "=v"(p) : "v"(x)); \
    asm volatile("vpmaddwd %1, %0, %0" : "+v"(p) : "v"(x));   \
    asm volatile("vpaddd %1, %0, %0" : "+v"(sums[j]) : "v"(p));
        EACH_SUM(STEP)
#undef STEP
    }
    return double{SUMS} * 64 * STEPS;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) double vnni_macs() {
    __m512i sums[SUMS] = {};
    const __m512i x = _mm512_set1_epi8(1);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j) asm volatile("vpdpbusd %1, %1, %0" : "+v"(sums[j]) : "v"(x));
        EACH_SUM(STEP)
#undef STEP
    }
    return double{SUMS} * 64 * STEPS;
}
#endif

#if defined(__aarch64__) && defined(__GNUC__)
// Products of signed bytes in pairs of 16 bits, which weights of -127..127 allow.
double neon_macs() {
    int16x8_t pair;
    int32x4_t sums[SUMS] = {};
    const int8x16_t x = vdupq_n_s8(1);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j)                                                              \
    asm volatile("smull %0.8h, %1.8b, %1.8b" : "=w"(pair) : "w"(x));         \
    asm volatile("smlal2 %0.8h, %1.16b, %1.16b" : "+w"(pair) : "w"(x));      \
    asm volatile("sadalp %0.4s, %1.8h" : "+w"(sums[j]) : "w"(pair));
        EACH_SUM(STEP)
#undef STEP
    }
    keep(sums);
    return double{SUMS} * 16 * STEPS;
}

__attribute__((target("arch=armv8.2-a+dotprod"))) double neon_dotprod_macs() {
    int32x4_t sums[SUMS] = {};
    const int8x16_t x = vdupq_n_s8(1);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j) asm volatile("sdot %0.4s, %1.16b, %1.16b" : "+w"(sums[j]) : "w"(x));
        EACH_SUM(STEP)
#undef STEP
    }
    keep(sums);
    return double{SUMS} * 16 * STEPS;
}
#endif

struct Roof {
    const char* isa;
    double (*macs)();
};

// By instruction set of the kernels; another one is measured as the portable one is.
const Roof ROOFS[] = {
#ifdef SUBBYTE_X86_KERNELS
    {"avx512_vbmi", vnni_macs}, {"avx512_vnni", vnni_macs}, {"avx512bw", avx512bw_macs}, {"avx2", avx2_macs},
#endif
#if defined(__aarch64__) && defined(__GNUC__)
    {"neon_dotprod", neon_dotprod_macs}, {"neon", neon_macs},
#endif
    {"portable", portable_macs},
};

// Reads 64 bytes.
struct PlainLine {
    static void read(const std::uint8_t* at) {
        std::uint64_t words[8];
        std::memcpy(words, at, sizeof words);
        const std::uint64_t all =
            words[0] ^ words[1] ^ words[2] ^ words[3] ^ words[4] ^ words[5] ^ words[6] ^ words[7];
        keep(all);
    }
    static void done() {}
};

#ifdef SUBBYTE_X86_KERNELS
struct Avx2Line {
    static void read(const std::uint8_t* at) {
        asm volatile("vmovdqu (%0), %%ymm0\n vmovdqu 32(%0), %%ymm1" : : "r"(at) : "xmm0", "xmm1", "memory");
    }
    static void done() { asm volatile("vzeroupper"); }
};

struct Avx512Line {
    static void read(const std::uint8_t* at) { asm volatile("vmovdqu64 (%0), %%zmm0" : : "r"(at) : "xmm0", "memory"); }
    static void done() { asm volatile("vzeroupper"); }
};
#endif

// Several streams side by side: one alone does not keep as many lines in flight as a core can.
template <class Line>
void read_streams(const std::uint8_t* data, std::size_t bytes, std::size_t streams) {
    constexpr std::size_t RUN = 1024;
    const std::size_t part = bytes / streams / RUN * RUN;
    for (std::size_t at = 0; at < part; at += RUN) {
        for (std::size_t stream = 0; stream < streams; ++stream) {
            for (std::size_t line = 0; line < RUN; line += 64)
                Line::read(data + stream * part + at + line);
        }
    }
    Line::done();
}

using Reader = void (*)(const std::uint8_t*, std::size_t, std::size_t);

Reader best_reader() {
#ifdef SUBBYTE_X86_KERNELS
    if (find_kernels("avx512bw") != nullptr) return read_streams<Avx512Line>;
    if (find_kernels("avx2") != nullptr) return read_streams<Avx2Line>;
#endif
    return read_streams<PlainLine>;
}

template <class Work>
double best_rate(int rounds, Work work) {
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        const std::int64_t begin = nanoseconds();
        const double count = work();
        best = std::max(best, count / static_cast<double>(std::max<std::int64_t>(nanoseconds() - begin, 1)));
    }
    return best;
}

}  // namespace

double mac_roof(const std::string& isa) {
    if (find_kernels(isa) == nullptr) fail("mac_roof", "'" + isa + "' is no instruction set of this CPU");
    double (*macs)() = portable_macs;
    for (const Roof& roof : ROOFS) {
        if (isa == roof.isa) macs = roof.macs;
    }
    return best_rate(ROUNDS, macs);
}

double read_roof(std::int64_t bytes) {
    constexpr std::int64_t LEAST = 16 * 1024;
    constexpr std::int64_t MOST = 256 << 20;
    constexpr std::int64_t TOTAL = 512 << 20;  // read per number of streams
    const auto size = static_cast<std::size_t>(std::min(std::max(bytes, LEAST), MOST)) / 4096 * 4096;
    const std::vector<std::uint8_t> data(size, 1);
    const Reader read = best_reader();
    const auto passes = std::max<std::int64_t>(std::int64_t{1 << 20} / static_cast<std::int64_t>(size), 1);
    const auto rounds = static_cast<int>(std::max<std::int64_t>(TOTAL / 4 / passes / static_cast<std::int64_t>(size), 3));
    double best = 0;
    for (const std::size_t streams : {1, 4, 16}) {
        best = std::max(best, best_rate(std::min(rounds, ROUNDS), [&] {
                            for (std::int64_t i = 0; i < passes; ++i)
                                read(data.data(), size, streams);
                            return static_cast<double>(size * static_cast<std::size_t>(passes));
                        }));
    }
    return best;
}

}  // namespace subbyte
