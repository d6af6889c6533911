// What the test programs are asked on the command line: ISA [COUNT].
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "subbyte/plan.h"

namespace subbyte_tests {

constexpr int SKIPPED = 77;

struct Asked {
    std::string isa;
    int count;
    const subbyte::Kernels* kernels;  // nullptr, which has been said, where this CPU cannot run them
};

inline Asked asked_for(int argc, char** argv, int usual_count) {
    Asked asked{argc > 1 ? argv[1] : "portable", argc > 2 ? std::atoi(argv[2]) : usual_count, nullptr};
    asked.kernels = subbyte::find_kernels(asked.isa);
    if (asked.kernels == nullptr) std::printf("%s does not run on this CPU\n", asked.isa.c_str());
    return asked;
}

}  // namespace subbyte_tests
