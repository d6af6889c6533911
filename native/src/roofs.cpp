#include "subbyte/roofs.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <vector>

#include "attributes.h"
#include "roof_loops.h"
#include "stopwatch.h"
#include "subbyte/plan.h"

#ifdef __aarch64__
#include <arm_neon.h>
#endif

namespace subbyte {
namespace {

constexpr int STEPS = 4096;
constexpr int ROUNDS = 300;

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

#if defined(__aarch64__) && defined(__GNUC__)
using roof_loops::SUMS;

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
        SUBBYTE_EACH_SUM(STEP)
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
        SUBBYTE_EACH_SUM(STEP)
#undef STEP
    }
    keep(sums);
    return double{SUMS} * 16 * STEPS;
}
#endif

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

// Per nanosecond: multiply-accumulates, rescaled results beside them, and multiply-accumulates of a depthwise
// convolution with its rescales, in whole vectors and in pieces of them; 0 where that was not written for an
// instruction set. Products and whole vectors again where products may leave int16, where that matters.
struct Roof {
    const char* isa;
    double (*macs)();
    double (*rescales)();
    double (*depthwise)();
    double (*pieces)();
    double (*wide_macs)();
    double (*wide_depthwise)();
};

double none() {
    return 0;
}

#ifdef SUBBYTE_X86_KERNELS
constexpr int PAIRED_ROUNDS = 60;

double avx2_macs() {
    return roof_loops::dot_rate<32>(roof_loops::maddubs_maddwd_256<false>, ROUNDS);
}

// Beside products of either kind.
double avx2_rescales() {
    using namespace roof_loops;
    return std::max(
        rescale_rate_beside<32>(maddubs_maddwd_256<false>, maddubs_maddwd_256<true>, PAIRED_ROUNDS),
        rescale_rate_beside<32>(maddubs_addw_256<false>, maddubs_addw_256<true>, PAIRED_ROUNDS));
}

double avx2_depthwise() {
    return roof_loops::depthwise_rate(roof_loops::depthwise_256<false>, 3 * ROUNDS);
}

double avx2_wide_macs() {
    return roof_loops::dot_rate<32>(roof_loops::wide_256<false>, ROUNDS);
}

double avx2_wide_depthwise() {
    return roof_loops::depthwise_rate(roof_loops::depthwise_256<true>, 3 * ROUNDS);
}

double avx512bw_macs() {
    return roof_loops::dot_rate<64>(roof_loops::maddubs_maddwd_512<false>, ROUNDS);
}

double avx512bw_wide_macs() {
    return roof_loops::dot_rate<64>(roof_loops::wide_512<false>, ROUNDS);
}

double avx512bw_rescales() {
    using namespace roof_loops;
    return rescale_rate_beside<64>(maddubs_maddwd_512<false>, maddubs_maddwd_512<true>, PAIRED_ROUNDS);
}

double vnni_macs() {
    return roof_loops::dot_rate<64>(roof_loops::vpdpbusd_512<false>, ROUNDS);
}

double vnni_rescales() {
    return roof_loops::rescale_rate_beside<64>(roof_loops::vpdpbusd_512<false>, roof_loops::vpdpbusd_512<true>,
                                               PAIRED_ROUNDS);
}

double vnni_depthwise() {
    return roof_loops::depthwise_rate(roof_loops::depthwise_512, 3 * ROUNDS);
}

double vnni_pieces() {
    return roof_loops::depthwise_rate(roof_loops::depthwise_pieces_512, 3 * ROUNDS);
}
#endif

double portable_rate() {
    return best_rate(ROUNDS, portable_macs);
}

#if defined(__aarch64__) && defined(__GNUC__)
double neon_rate() {
    return best_rate(ROUNDS, neon_macs);
}

double neon_dotprod_rate() {
    return best_rate(ROUNDS, neon_dotprod_macs);
}
#endif

// By instruction set of the kernels; another one is measured as the portable one is.
const Roof ROOFS[] = {
#ifdef SUBBYTE_X86_KERNELS
    {"avx512_vbmi", vnni_macs, vnni_rescales, vnni_depthwise, vnni_pieces, none, none},
    {"avx512_vnni", vnni_macs, vnni_rescales, vnni_depthwise, vnni_pieces, none, none},
    {"avx512bw", avx512bw_macs, avx512bw_rescales, none, none, avx512bw_wide_macs, none},
    {"avx2", avx2_macs, avx2_rescales, avx2_depthwise, none, avx2_wide_macs, avx2_wide_depthwise},
#endif
#if defined(__aarch64__) && defined(__GNUC__)
    {"neon_dotprod", neon_dotprod_rate, none, none, none, none, none},
    {"neon", neon_rate, none, none, none, none, none},
#endif
    {"portable", portable_rate, none, none, none, none, none},
};

const Roof& find_roof(const std::string& isa) {
    if (find_kernels(isa) == nullptr) fail("roof", "'" + isa + "' is no instruction set of this CPU");
    for (const Roof& roof : ROOFS) {
        if (isa == roof.isa) return roof;
    }
    return *(std::end(ROOFS) - 1);
}

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

}  // namespace

double mac_roof(const std::string& isa) {
    return find_roof(isa).macs();
}

double wide_mac_roof(const std::string& isa) {
    return find_roof(isa).wide_macs();
}

double rescale_roof(const std::string& isa) {
    return find_roof(isa).rescales();
}

double depthwise_roof(const std::string& isa) {
    return find_roof(isa).depthwise();
}

double depthwise_pieces_roof(const std::string& isa) {
    return find_roof(isa).pieces();
}

double wide_depthwise_roof(const std::string& isa) {
    return find_roof(isa).wide_depthwise();
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
