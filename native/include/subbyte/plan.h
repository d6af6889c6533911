// A plan: operators in execution order over an arena. Built once from a PlanSpec, then immutable and shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "subbyte/kernels.h"
#include "subbyte/spec.h"

namespace subbyte {

// Where a value lies. A value that padded convolutions read has a border of its zero point around every image, so
// that no kernel knows about padding.
struct Layout {
    Dims shape;
    Dims strides;  // in numbers
    Storage storage = Storage::u8;
    std::int64_t origin = 0;  // bytes from the buffer's start to element 0, behind the border
    std::int64_t bytes = 0;   // of the buffer, border included, slack not
    std::int32_t zero_point = 0;
    std::int32_t lo = 0;
    std::int32_t hi = 0;
    float scale = 1;
    std::vector<std::int32_t> table;  // what codes stand for; empty where steps are even
    bool position = false;  // counts along an axis: its reals are int64 numbers, not float32
    std::int64_t top = 0, left = 0, bottom = 0, right = 0;
    std::size_t root = 0;  // the value whose buffer this is: another one for reshapes that copy nothing
    bool given = false;    // comes from the caller
    // May lie in the caller's array: a result in a buffer of its own that no operator reads, or an input without a
    // border behind which none reads.
    bool outside = false;

    bool coded() const { return !table.empty(); }
    // The smallest and the largest that a stored integer stands for, in units of the scale.
    std::int64_t least() const { return coded() ? table.front() : std::int64_t{lo} - zero_point; }
    std::int64_t most() const { return coded() ? table.back() : std::int64_t{hi} - zero_point; }
    std::int64_t count() const;
    bool bordered() const { return top != 0 || left != 0 || bottom != 0 || right != 0; }
};

// Buffers of one sample while it runs.
struct Frame {
    std::uint8_t* const* places;  // element 0 of every value
    std::uint8_t* scratches;      // one for every part of an operator
    std::int64_t scratch_bytes;

    std::uint8_t* at(std::size_t value) const { return places[value]; }
    std::uint8_t* scratch(int part) const { return scratches + part * scratch_bytes; }
};

// A share of an operator's work; shares write disjoint bytes and may run at once.
struct Part {
    int index = 0;
    int count = 1;

    std::int64_t begin(std::int64_t total) const {
        return total / count * index + std::min<std::int64_t>(total % count, index);
    }
    std::int64_t end(std::int64_t total) const { return Part{index + 1, count}.begin(total); }
};

// Something that an operator can do in several ways, all of which give the same integers.
struct Knob {
    std::string name;
    std::vector<std::string> ways;  // that are legal for this operator
    std::string chosen;
};

class Op {
public:
    Op(const OpSpec& spec);
    Op(const Op&) = delete;
    Op& operator=(const Op&) = delete;
    virtual ~Op() = default;

    // Ask for borders of the inputs; called before buffers are laid out.
    virtual void request(std::vector<Layout>& /*values*/) const {}
    // Whether no byte behind the inputs is read; else up to READ_SLACK are. Asked when borders are known.
    virtual bool reads_exactly(const std::vector<Layout>& /*values*/) const { return false; }
    // Whether the result may lie in the input's buffer (then run does nothing).
    virtual bool aliases() const { return false; }
    // Precompute offsets; called once after buffers are laid out.
    virtual void prepare(const std::vector<Layout>& values) = 0;
    // Writes no byte that is not the result's, which may lie in a caller's array.
    virtual void run(const Frame& frame, Part part) const = 0;

    std::string name;
    std::vector<std::size_t> inputs;
    std::size_t output;
    std::int64_t work = 0;           // elementary operations, to decide whether sharing pays
    std::int64_t wide_macs = 0;      // multiply-accumulates of which two are not proved to fit the int16 of the kernels
    std::int64_t scratch_bytes = 0;  // that run needs for itself, in every part; known after prepare
    std::int64_t weight_bytes = 0;   // that weights take while the plan lives
    std::vector<Knob> knobs;
    Family family = Family::automatic;  // that multiplies; automatic where there is no choice
};

// Byte offsets of every value in an arena, and its size.
struct Arena {
    std::vector<std::int64_t> origins;
    std::int64_t bytes = 0;
};

struct Plan {
    std::vector<ValueSpec> specs;
    std::vector<Layout> values;
    std::vector<std::unique_ptr<Op>> ops;
    std::vector<std::size_t> inputs;
    std::vector<std::size_t> outputs;
    const Kernels* kernels = nullptr;
    Arena shared;                    // buffers reused as soon as their value is dead
    Arena keep;                      // every value has its own buffer
    std::int64_t scratch_bytes = 0;  // the most of any operator, rounded up to whole cache lines
    std::int64_t weight_bytes = 0;
};

// Check everything, decode the weights and lay out the arena. Raises PlanError.
Plan build_plan(const PlanSpec& spec, const Kernels& kernels);

// Kernels of this CPU, the best ones, or those that the environment variable SUBBYTE_ISA names. Raises PlanError.
const Kernels& choose_kernels();
struct PackedKernels;
const PackedKernels& packed_kernels(const Kernels& kernels);
struct FamilyKernels;
// Those of the families beside dot; nullptr where there are none.
const FamilyKernels* family_kernels(const Kernels& kernels);

// Whether this CPU, if it can count the bits of vectors at all, does so as often as it multiplies vectors of bytes.
bool counts_bits_quickly();
// Kernels by name; nullptr where they are unknown here or the CPU cannot run them.
const Kernels* find_kernels(const std::string& isa);
std::vector<std::string> available_isas();

}  // namespace subbyte
