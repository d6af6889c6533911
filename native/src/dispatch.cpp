// The only file that asks the CPU what it can do.

#include <cstdlib>

#ifdef SUBBYTE_ARM_KERNELS
#include <sys/auxv.h>
#endif

#include "attributes.h"
#include "kernels/kernels.h"
#include "subbyte/plan.h"

namespace subbyte {
namespace {

struct Entry {
    const Kernels* kernels;
    bool (*runs)();
};

bool always() {
    return true;
}

#ifdef SUBBYTE_X86_KERNELS
bool has_avx2() {
    return __builtin_cpu_supports("avx2") != 0;
}

bool has_avx512_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef SUBBYTE_ARM_KERNELS
// Every AArch64 CPU that runs Linux has NEON.
bool has_dotprod() {
    constexpr unsigned long DOT_PRODUCT = 1UL << 20;  // HWCAP_ASIMDDP, which old C libraries do not name
    return (getauxval(AT_HWCAP) & DOT_PRODUCT) != 0;
}
#endif

// Best first.
const Entry ENTRIES[] = {
#ifdef SUBBYTE_X86_KERNELS
    {&avx512_vnni::KERNELS, has_avx512_vnni},
    {&avx2::KERNELS, has_avx2},
#endif
#ifdef SUBBYTE_ARM_KERNELS
    {&neon_dotprod::KERNELS, has_dotprod},
    {&neon::KERNELS, always},
#endif
    {&portable::KERNELS, always},
};

}  // namespace

const Kernels* find_kernels(const std::string& isa) {
    for (const Entry& entry : ENTRIES) {
        if (isa == entry.kernels->isa) return entry.runs() ? entry.kernels : nullptr;
    }
    return nullptr;
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Entry& entry : ENTRIES) {
        if (entry.runs()) names.push_back(entry.kernels->isa);
    }
    return names;
}

const Kernels& choose_kernels() {
    const char* wanted = std::getenv("SUBBYTE_ISA");
    const std::vector<std::string> names = available_isas();
    if (wanted == nullptr || *wanted == '\0') return *find_kernels(names.front());
    const Kernels* found = find_kernels(wanted);
    if (found == nullptr) {
        std::string known;
        for (const std::string& name : names)
            known += (known.empty() ? "" : ", ") + name;
        fail("SUBBYTE_ISA", "'" + std::string(wanted) + "' is not among the instruction sets of this CPU: " + known);
    }
    return *found;
}

}  // namespace subbyte
