// The only file that asks the CPU what it can do.

#include <cstdlib>

#ifdef SUBBYTE_ARM_KERNELS
#include <sys/auxv.h>
#endif

#include "attributes.h"
#include "kernels/families.h"
#include "kernels/kernels.h"
#include "kernels/packed.h"
#include "subbyte/plan.h"

namespace subbyte {
namespace {

struct Entry {
    const Kernels* kernels;
    const PackedKernels* packed;
    const FamilyKernels* families;
    bool (*runs)();
};

bool always() {
    return true;
}

#ifdef SUBBYTE_X86_KERNELS
bool has_avx2() {
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}

bool has_avx512bw() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool has_avx512_vnni() {
    return has_avx512bw() && __builtin_cpu_supports("avx512vnni");
}

bool has_avx512_vbmi() {
    return has_avx512_vnni() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vpopcntdq");
}

Kernels with_vbmi() {
    Kernels kernels = avx512_vnni::KERNELS;
    kernels.isa = "avx512_vbmi";
    kernels.lookup8 = avx512_vbmi::lookup8;
    return kernels;
}

const Kernels VBMI_KERNELS = with_vbmi();
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
    {&VBMI_KERNELS, &avx512_vnni::PACKED, &avx512_vbmi::FAMILIES, has_avx512_vbmi},
    {&avx512_vnni::KERNELS, &avx512_vnni::PACKED, &avx512_vnni::FAMILIES, has_avx512_vnni},
    {&avx512bw::KERNELS, &avx512bw::PACKED, &avx512bw::FAMILIES, has_avx512bw},
    {&avx2::KERNELS, &avx2::PACKED, &avx2::FAMILIES, has_avx2},
#endif
#ifdef SUBBYTE_ARM_KERNELS
    {&neon_dotprod::KERNELS, &neon::PACKED, nullptr, has_dotprod},
    {&neon::KERNELS, &neon::PACKED, nullptr, always},
#endif
    {&portable::KERNELS, &portable::PACKED, &portable::FAMILIES, always},
};

const Entry& entry_of(const Kernels& kernels) {
    const Entry* entry = ENTRIES;
    while (entry->kernels != &kernels)
        ++entry;
    return *entry;
}

}  // namespace

const Kernels* find_kernels(const std::string& isa) {
    for (const Entry& entry : ENTRIES) {
        if (isa == entry.kernels->isa) return entry.runs() ? entry.kernels : nullptr;
    }
    return nullptr;
}

const PackedKernels& packed_kernels(const Kernels& kernels) {
    return *entry_of(kernels).packed;
}

const FamilyKernels* family_kernels(const Kernels& kernels) {
    return entry_of(kernels).families;
}

// AMD's cores do; Intel's servers have one unit that counts and two that multiply, by the tables of uops.info.
bool counts_bits_quickly() {
#ifdef SUBBYTE_X86_KERNELS
    return __builtin_cpu_is("amd") != 0;
#else
    return false;
#endif
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
