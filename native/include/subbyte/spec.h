// What a plan is built from: plain data, nothing of it trusted (see plan.h for who checks it).
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace subbyte {

using Dims = std::vector<std::int64_t>;

// The specification breaks a rule; the text says which operator, what was seen and what is required.
class PlanError : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

enum class Storage : std::uint8_t { u8, i16, i32 };

constexpr std::int64_t storage_bytes(Storage s) {
    return s == Storage::u8 ? 1 : s == Storage::i16 ? 2 : 4;
}

// A value of the graph: stored integers q with real = scale * (q - zero_point), lo <= q <= hi; or codes q with
// real = scale * table[q].
struct ValueSpec {
    std::string name;
    Dims shape;  // of one sample: the batch axis is left out
    Storage storage = Storage::u8;
    std::int64_t zero_point = 0;
    std::int64_t lo = 0;
    std::int64_t hi = 255;
    double scale = 1;  // exact in float32
    std::vector<std::int32_t> table;  // what codes stand for, ascending, 0 at the zero point; empty: even steps
};

// A constant, borrowed while the plan is built; C-contiguous.
struct ArraySpec {
    Storage storage = Storage::u8;
    Dims shape;
    const void* data = nullptr;
};

// An operator of the integer dialect; axes count the batch axis as 0, as in the graph.
struct OpSpec {
    std::string kind;
    std::string name;
    std::vector<std::int64_t> inputs;  // indices of values
    std::int64_t output = 0;
    std::map<std::string, Dims> attributes;
    std::map<std::string, ArraySpec> arrays;
    std::map<std::string, std::string> choices;  // by knob (see plan.h); the operator chooses where there is none
};

// Whether weights stay packed to as few bits as their numbers need. `automatic` packs where memory is the bottleneck.
enum class Packing : std::uint8_t { automatic, packed, unpacked };

// How convolution and linear layers multiply, see src/kernels/families.h. A layer that a family cannot do takes dot.
enum class Family : std::uint8_t { automatic, dot, lookup, bit_planes };

struct PlanSpec {
    std::vector<ValueSpec> values;
    std::vector<OpSpec> ops;  // in execution order
    std::vector<std::int64_t> inputs;
    std::vector<std::int64_t> outputs;
    Packing packing = Packing::automatic;
    Family family = Family::automatic;
};

}  // namespace subbyte
