// From a specification to a plan: every claim of it is checked here or in the operator's maker.

#include "subbyte/plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "attributes.h"
#include "layout.h"
#include "ops/ops.h"
#include "walk.h"

namespace subbyte {
namespace {

constexpr std::int32_t MOST_VALUE = (1 << 24) - 1;  // of a code
constexpr double MOST_SCALE = 3.4028234663852886e38;  // largest float32

using Maker = OpPtr (*)(const Build&);

const std::map<std::string, Maker>& makers() {
    static const std::map<std::string, Maker> table = {
        {"int_conv", make_conv},         {"int_linear", make_linear},     {"int_add", make_add},
        {"int_mul", make_mul},           {"int_rescale", make_rescale},   {"int_lut", make_lookup},
        {"max_pool", make_max_pool},     {"int_avg_pool", make_avg_pool}, {"int_mean", make_mean},
        {"argmax", make_argmax},         {"int_softmax", make_softmax},   {"int_log_softmax", make_log_softmax},
        {"concat", make_concat},         {"reshape", make_reshape},       {"identity", make_reshape},
        {"transpose", make_transpose},   {"slice", make_slice},           {"int_pad", make_pad},
        {"resize_nearest", make_resize}, {"int_trim", make_trim},
        {"int_linear_per_token", make_linear_per_token},
        {"int_linear_norm", make_linear_norm},
        {"int_linear_argmax", make_linear_argmax},
        {"int_channel_stack", make_channel_stack},
    };
    return table;
}

// Operators that know what codes stand for, or that their order is that of what they stand for; and those that make
// codes of other numbers.
bool reads_codes(const std::string& kind) {
    static const std::set<std::string> kinds = {"int_conv", "int_linear", "int_lut",   "max_pool", "concat",  "reshape",
                                                "identity", "transpose",  "slice",     "int_pad",  "resize_nearest"};
    return kinds.count(kind) != 0;
}
bool makes_codes(const std::string& kind) {
    return kind == "int_rescale" || reads_codes(kind);
}

void check_codes(const OpSpec& op, const std::vector<Layout>& values) {
    for (const std::int64_t i : op.inputs) {
        if (values[static_cast<std::size_t>(i)].coded() && !reads_codes(op.kind))
            fail("operator '" + op.name + "' (" + op.kind + ")", "it reads no codes");
    }
    if (values[static_cast<std::size_t>(op.output)].coded() && !makes_codes(op.kind))
        fail("operator '" + op.name + "' (" + op.kind + ")", "it makes no codes");
}

void check_table(const ValueSpec& spec, const std::string& where) {
    const std::vector<std::int32_t>& table = spec.table;
    if (table.size() > 256 || spec.storage != Storage::u8 || spec.lo != 0 ||
        spec.hi != static_cast<std::int64_t>(table.size()) - 1)
        fail(where, "codes are bytes, as many as their table has entries");
    for (std::size_t i = 0; i < table.size(); ++i) {
        if (table[i] < -MOST_VALUE || table[i] > MOST_VALUE || (i > 0 && table[i] <= table[i - 1]))
            fail(where, "what codes stand for ascends and fits 24 bits and a sign");
    }
    if (spec.zero_point < 0 || spec.zero_point > spec.hi || table[static_cast<std::size_t>(spec.zero_point)] != 0)
        fail(where, "the zero point of codes stands for 0");
}

Layout checked_value(const ValueSpec& spec) {
    const std::string where = "value '" + spec.name + "'";
    if (spec.storage == Storage::i32) fail(where, "values are stored as uint8 or int16");
    if (spec.shape.size() > MOST_AXES) fail(where, "more than 7 axes behind the batch");
    const std::int64_t least = spec.storage == Storage::u8 ? 0 : -32768;
    const std::int64_t most = spec.storage == Storage::u8 ? 255 : 32767;
    if (spec.lo > spec.hi || spec.lo < least || spec.hi > most)
        fail(where, "the range " + std::to_string(spec.lo) + ".." + std::to_string(spec.hi) +
                        " is empty or leaves its storage");
    if (spec.zero_point < -65536 || spec.zero_point > 65536) fail(where, "the zero point exceeds 65536");
    if (!(spec.scale > 0 && spec.scale <= MOST_SCALE) || static_cast<float>(spec.scale) != spec.scale)
        fail(where, "the scale is no positive float32");
    product(spec.shape, where);
    if (!spec.table.empty()) check_table(spec, where);
    Layout v;
    v.table = spec.table;
    v.shape = spec.shape;
    v.storage = spec.storage;
    v.zero_point = static_cast<std::int32_t>(spec.zero_point);
    v.lo = static_cast<std::int32_t>(spec.lo);
    v.hi = static_cast<std::int32_t>(spec.hi);
    v.scale = static_cast<float>(spec.scale);
    return v;
}

std::size_t checked_index(std::int64_t index, std::size_t count, const std::string& where) {
    if (index < 0 || static_cast<std::uint64_t>(index) >= count)
        fail(where, "value " + std::to_string(index) + " does not exist");
    return static_cast<std::size_t>(index);
}

// Every value is defined once, before its uses.
void check_order(const PlanSpec& spec) {
    const std::size_t count = spec.values.size();
    std::vector<bool> defined(count, false);
    const auto define = [&](std::int64_t index, const std::string& where) {
        const std::size_t i = checked_index(index, count, where);
        if (defined[i]) fail(where, "value '" + spec.values[i].name + "' is defined twice");
        defined[i] = true;
    };
    const auto use = [&](std::int64_t index, const std::string& where) {
        const std::size_t i = checked_index(index, count, where);
        if (!defined[i]) fail(where, "value '" + spec.values[i].name + "' is used before it is defined");
    };
    for (const std::int64_t i : spec.inputs)
        define(i, "inputs");
    for (const OpSpec& op : spec.ops) {
        const std::string where = "operator '" + op.name + "'";
        for (const std::int64_t i : op.inputs)
            use(i, where);
        define(op.output, where);
    }
    for (const std::int64_t i : spec.outputs)
        use(i, "outputs");
    for (std::size_t i = 0; i < count; ++i) {
        if (!defined[i]) fail("value '" + spec.values[i].name + "'", "nothing defines it");
    }
}

}  // namespace

Op::Op(const OpSpec& spec) : name(spec.name), output(static_cast<std::size_t>(spec.output)) {
    for (const std::int64_t i : spec.inputs)
        inputs.push_back(static_cast<std::size_t>(i));
}

std::int64_t Layout::count() const {
    std::int64_t total = 1;
    for (const std::int64_t d : shape)
        total *= d;
    return total;
}

Plan build_plan(const PlanSpec& spec, const Kernels& kernels) {
    check_order(spec);
    Plan plan;
    plan.kernels = &kernels;
    plan.specs = spec.values;
    for (const ValueSpec& value : spec.values)
        plan.values.push_back(checked_value(value));
    for (const OpSpec& op : spec.ops) {
        const auto maker = makers().find(op.kind);
        if (maker == makers().end()) fail("operator '" + op.name + "'", "kind '" + op.kind + "' is unknown");
        check_codes(op, plan.values);
        plan.ops.push_back(maker->second(Build{op, plan.values, kernels, spec.packing, spec.family}));
        Layout& made = plan.values[plan.ops.back()->output];
        const bool place = op.kind == "argmax" || op.kind == "int_linear_argmax";
        made.position = place && made.zero_point == 0 && made.scale == 1.0F;
    }
    for (const std::int64_t i : spec.inputs) {
        plan.inputs.push_back(static_cast<std::size_t>(i));
        plan.values[plan.inputs.back()].given = true;
    }
    for (const std::int64_t i : spec.outputs)
        plan.outputs.push_back(static_cast<std::size_t>(i));
    for (const std::vector<std::size_t>& ends : {plan.inputs, plan.outputs}) {
        for (const std::size_t i : ends) {
            if (plan.values[i].coded()) fail("value '" + spec.values[i].name + "'", "codes lie between operators only");
        }
    }
    for (const OpPtr& op : plan.ops)
        op->request(plan.values);
    lay_out(plan);
    for (const OpPtr& op : plan.ops) {
        op->prepare(plan.values);
        plan.scratch_bytes = std::max(plan.scratch_bytes, (op->scratch_bytes + 63) / 64 * 64);
        plan.weight_bytes += op->weight_bytes;
    }
    return plan;
}

}  // namespace subbyte
