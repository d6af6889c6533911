// The extension subbyte._native: build an engine from values and operators, run it. The caller is not trusted.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "numpy_arrays.h"
#include "shared_windows.h"
#include "ops/accumulation.h"
#include "ops/families.h"
#include "subbyte/engine.h"
#include "subbyte/roofs.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using subbyte::ArraySpec;
using subbyte::Buffer;
using subbyte::Dims;
using subbyte::Engine;
using subbyte::Family;
using subbyte::Form;
using subbyte::Layout;
using subbyte::NumPy;
using subbyte::OpSpec;
using subbyte::Plan;
using subbyte::PlanError;
using subbyte::PlanSpec;
using subbyte::SharedWindows;
using subbyte::Source;
using subbyte::Storage;
using subbyte::Target;
using subbyte::ValueSpec;

using ConstArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

Storage storage_of(const nb::dlpack::dtype& dtype, const std::string& where) {
    if (dtype == nb::dtype<std::uint8_t>()) return Storage::u8;
    if (dtype == nb::dtype<std::int16_t>()) return Storage::i16;
    if (dtype == nb::dtype<std::int32_t>()) return Storage::i32;
    throw PlanError(where + ": numbers must be uint8, int16 or int32");
}

template <class Array>
Array borrowed(nb::handle object, const std::string& where) {
    Array array;
    if (!nb::try_cast<Array>(object, array, false))
        throw PlanError(where + ": not a C-contiguous array of this machine that may be used so");
    return array;
}

template <class Array>
Dims shape_of(const Array& array) {
    Dims shape;
    for (std::size_t i = 0; i < array.ndim(); ++i)
        shape.push_back(static_cast<std::int64_t>(array.shape(i)));
    return shape;
}

class Builder {
public:
    std::int64_t value(const std::string& name, const Dims& shape, const std::string& storage, std::int64_t zero_point,
                       std::int64_t lo, std::int64_t hi, double scale, const std::vector<std::int32_t>& table) {
        if (storage != "uint8" && storage != "int16")
            throw PlanError("value '" + name + "': storage '" + storage + "' is neither uint8 nor int16");
        plan_.values.push_back(
            ValueSpec{name, shape, storage == "uint8" ? Storage::u8 : Storage::i16, zero_point, lo, hi, scale, table});
        return static_cast<std::int64_t>(plan_.values.size()) - 1;
    }

    void op(const std::string& kind, const std::string& name, const std::vector<std::int64_t>& inputs,
            std::int64_t output, const std::map<std::string, Dims>& attributes, const nb::dict& arrays,
            const std::map<std::string, std::string>& choices) {
        OpSpec spec{kind, name, inputs, output, attributes, {}, choices};
        for (const auto& item : arrays) {
            const auto key = nb::cast<std::string>(item.first);
            const std::string where = "operator '" + name + "', array '" + key + "'";
            const auto array = borrowed<ConstArray>(item.second, where);
            spec.arrays[key] = ArraySpec{storage_of(array.dtype(), where), shape_of(array), array.data()};
            held_.push_back(array);
        }
        plan_.ops.push_back(std::move(spec));
    }

    std::unique_ptr<Engine> build(const std::vector<std::int64_t>& inputs, const std::vector<std::int64_t>& outputs,
                                  const std::string& weights, const std::string& family) {
        plan_.inputs = inputs;
        plan_.outputs = outputs;
        if (weights == "packed") {
            plan_.packing = subbyte::Packing::packed;
        } else if (weights == "unpacked") {
            plan_.packing = subbyte::Packing::unpacked;
        } else if (weights != "auto") {
            throw PlanError("weights '" + weights + "' are none of packed, unpacked, auto");
        }
        plan_.family = family_of(family);
        return std::make_unique<Engine>(subbyte::build_plan(plan_, subbyte::choose_kernels()));
    }

private:
    static Family family_of(const std::string& name) {
        if (name == "auto") return Family::automatic;
        for (const Family family : {Family::dot, Family::lookup, Family::bit_planes}) {
            if (name == subbyte::family_name(family)) return family;
        }
        throw PlanError("family '" + name + "' is none of auto, dot, lookup, bit_planes");
    }

    PlanSpec plan_;
    std::vector<ConstArray> held_;  // until the plan is built
};

// Results of a run, new arrays [batch, *shape], with the memory that they are filled through.
struct Results {
    Results(const Plan& plan, const std::vector<std::size_t>& values, std::int64_t batch, bool reals) {
        for (const std::size_t v : values) {
            const Layout& value = plan.values[v];
            arrays.append(NumPy::get().empty(value, batch, reals));
            const Buffer& memory = memories.emplace_back(nb::object(arrays[arrays.size() - 1]).ptr(), true);
            targets.push_back({memory.data(), result_form(value, reals)});
        }
    }

    static Form result_form(const Layout& value, bool reals) {
        if (!reals) return Form::stored;
        return value.position ? Form::position : Form::real;
    }

    nb::list arrays;
    std::deque<Buffer> memories;
    std::vector<Target> targets;
};

// What a run is fed with, checked.
struct Feeds {
    Feeds(const Plan& plan, const nb::list& inputs, bool reals) {
        if (inputs.size() != plan.inputs.size())
            throw PlanError("run: " + std::to_string(inputs.size()) + " arrays for " +
                            std::to_string(plan.inputs.size()) + " inputs");
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const Buffer& memory = memories.emplace_back(nb::object(inputs[i]).ptr());
            if (i == 0) batch = memory.batch();
            Form form = Form::stored;
            const char* wrong = memory.misfit(plan.values[plan.inputs[i]], batch, reals, form);
            if (wrong != nullptr) throw PlanError("run: input " + std::to_string(i) + wrong);
            sources.push_back({memory.data(), form});
        }
        if (batch < 1) throw PlanError("run: the batch is empty");
    }

    std::int64_t batch = 0;
    std::deque<Buffer> memories;
    std::vector<Source> sources;
};

nb::list run(Engine& engine, const nb::list& inputs, int threads, bool reals, bool keep) {
    const Plan& plan = engine.plan();
    const Feeds feeds(plan, inputs, reals);
    std::vector<std::size_t> every(plan.values.size());
    std::iota(every.begin(), every.end(), std::size_t{0});
    const Results results(plan, keep ? every : plan.outputs, feeds.batch, reals);
    {
        const nb::gil_scoped_release unlocked;
        engine.run(feeds.sources, results.targets, feeds.batch, threads, keep);
    }
    return results.arrays;
}

using Int8Matrix = nb::ndarray<const std::int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// For tests and the profile: how one panel of at most a vector of columns adds up.
std::vector<std::int32_t> windows(const Int8Matrix& weights, std::int64_t most, const std::string& isa) {
    const subbyte::Kernels* kernels = subbyte::find_kernels(isa);
    if (kernels == nullptr || !kernels->sums_in_int16) throw PlanError(isa + ": sums nothing in int16 here");
    const auto columns = static_cast<std::int64_t>(weights.shape(0));
    if (columns < 1 || columns > kernels->lanes || most < 0 || most > 255)
        throw PlanError("windows: 1.." + std::to_string(kernels->lanes) + " columns and 0 <= most <= 255");
    const subbyte::ColumnNumbers numbers{weights.data(), columns, 1, static_cast<std::int64_t>(weights.shape(1))};
    return subbyte::windows(numbers, most);
}

std::vector<std::pair<std::int64_t, std::int64_t>> profile(Engine& engine, const nb::list& inputs, int threads,
                                                           int repeats) {
    const Feeds feeds(engine.plan(), inputs, false);
    const Results results(engine.plan(), engine.plan().outputs, 1, false);
    std::vector<std::pair<std::int64_t, std::int64_t>> times;
    const nb::gil_scoped_release unlocked;
    for (const Engine::Time& time : engine.profile(feeds.sources, results.targets, threads, repeats))
        times.emplace_back(time.least, time.median);
    return times;
}

// The whole of a call in the plainest case: one array in, one out. None where anything about it is unusual or wrong,
// for the caller to take the careful road, which converts or says what is wrong.
nb::object quick(Engine& engine, nb::handle x, int threads, bool reals) {
    const Plan& plan = engine.plan();
    const NumPy& numpy = NumPy::get();
    if (plan.inputs.size() != 1 || plan.outputs.size() != 1 || !numpy.is_array(x.ptr())) return nb::none();
    const Buffer from(x.ptr());
    const std::int64_t batch = from.batch();
    Form form = Form::stored;
    if (batch < 1 || from.misfit(plan.values[plan.inputs[0]], batch, reals, form) != nullptr) return nb::none();
    const Layout& value = plan.values[plan.outputs[0]];
    nb::object result = numpy.empty(value, batch, reals);
    const Buffer to(result.ptr(), true);
    try {
        const nb::gil_scoped_release unlocked;
        engine.run({{from.data(), form}}, {{to.data(), Results::result_form(value, reals)}}, batch, threads, false);
    } catch (const PlanError&) {
        return nb::none();
    }
    return result;
}

using KnobTuple = std::tuple<std::string, std::vector<std::string>, std::string>;
using OperatorTuple = std::tuple<std::int64_t, bool, std::vector<KnobTuple>>;

std::vector<OperatorTuple> operators(const Engine& engine) {
    const subbyte::Plan& plan = engine.plan();
    std::vector<OperatorTuple> result;
    for (const auto& op : plan.ops) {
        std::vector<KnobTuple> knobs;
        for (const subbyte::Knob& knob : op->knobs)
            knobs.emplace_back(knob.name, knob.ways, knob.chosen);
        result.emplace_back(op->weight_bytes, plan.values[op->output].root != op->output, std::move(knobs));
    }
    return result;
}

// Which of these values' stored integers are copied from or to the caller's arrays; the others stay there.
std::vector<bool> copied(const Plan& plan, const std::vector<std::size_t>& values) {
    std::vector<bool> result;
    for (const std::size_t v : values)
        result.push_back(!plan.values[v].outside || (&values == &plan.outputs && plan.values[v].given));
    return result;
}

std::vector<std::int64_t> wide_macs(const Engine& engine) {
    std::vector<std::int64_t> result;
    for (const auto& op : engine.plan().ops)
        result.push_back(op->wide_macs);
    return result;
}

std::map<std::string, std::string> families(const Engine& engine) {
    std::map<std::string, std::string> names;
    for (const auto& op : engine.plan().ops) {
        if (op->family != Family::automatic) names[op->name] = subbyte::family_name(op->family);
    }
    return names;
}

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using NewBytes = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using NewCodes = nb::ndarray<std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class Rows, class Packed>
SharedWindows shared_windows(const Rows& codes, const Packed& bytes, std::int64_t run, const Dims& shifts, int zero) {
    if (zero < 0 || zero > 255) throw PlanError("shared windows: the zero point is no byte");
    SharedWindows form{static_cast<std::int64_t>(codes.shape(1)), run, shifts, static_cast<std::uint8_t>(zero)};
    const std::int64_t wanted = subbyte::packed_bytes(form, static_cast<std::int64_t>(codes.shape(0)));
    if (static_cast<std::int64_t>(bytes.size()) != wanted)
        throw PlanError("shared windows: " + std::to_string(bytes.size()) + " bytes, not " + std::to_string(wanted));
    return form;
}

bool pack_shared(const Codes& codes, const NewBytes& out, std::int64_t run, const Dims& shifts, int zero) {
    const SharedWindows form = shared_windows(codes, out, run, shifts, zero);
    const nb::gil_scoped_release unlocked;
    return subbyte::pack_shared(form, codes.data(), static_cast<std::int64_t>(codes.shape(0)), out.data());
}

std::string unpack_shared(const Bytes& bytes, const NewCodes& out, std::int64_t run, const Dims& shifts, int zero) {
    const SharedWindows form = shared_windows(out, bytes, run, shifts, zero);
    const nb::gil_scoped_release unlocked;
    const auto found =
        subbyte::unpack_shared(form, bytes.data(), static_cast<std::int64_t>(out.shape(0)), out.data());
    if (found == subbyte::Unpacked::good) return "good";
    return found == subbyte::Unpacked::wrong_place ? "wrong_place" : "beyond_codes";
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "The native engine: integer plans, bit-exact on every CPU.";
    NumPy::get();  // imports NumPy now, so that no run does
    module.attr("MAX_THREADS") = subbyte::MAX_THREADS;
    module.def("available_isas", &subbyte::available_isas, "Instruction sets that this CPU can run, best first.");
    module.def("mac_roof", &subbyte::mac_roof, "isa"_a, nb::call_guard<nb::gil_scoped_release>(),
               "Multiply-accumulates of bytes per nanosecond that one core reaches from registers.");
    module.def("wide_mac_roof", &subbyte::wide_mac_roof, "isa"_a, nb::call_guard<nb::gil_scoped_release>(),
               "The same where two products may leave the int16 that kernels add in; 0 where they add in int32.");
    module.def("rescale_roof", &subbyte::rescale_roof, "isa"_a, nb::call_guard<nb::gil_scoped_release>(),
               "Results per nanosecond that one core rescales beside products; 0 where that is not measured.");
    module.def("depthwise_roof", &subbyte::depthwise_roof, "isa"_a, nb::call_guard<nb::gil_scoped_release>(),
               "Multiply-accumulates per nanosecond of a 3x3 depthwise convolution; 0 where that is not measured.");
    module.def("depthwise_pieces_roof", &subbyte::depthwise_pieces_roof, "isa"_a,
               nb::call_guard<nb::gil_scoped_release>(),
               "The same of up to 16 channels that whole vectors leave over; 0 where that is not measured.");
    module.def("wide_depthwise_roof", &subbyte::wide_depthwise_roof, "isa"_a, nb::call_guard<nb::gil_scoped_release>(),
               "Of depthwise convolutions where sums of channels may leave int16; 0 where kernels add in int32.");
    module.def("read_roof", &subbyte::read_roof, "bytes"_a, nb::call_guard<nb::gil_scoped_release>(),
               "Bytes per nanosecond that one core reads of a buffer of that size, again and again.");

    module.def("windows", &windows, "weights"_a, "most"_a, "isa"_a,
               "Steps of 4 products after which int16 sums of weights [columns, k] times 0..most move on to int32; "
               "empty where they never fit.");

    module.def("pack_shared", &pack_shared, "codes"_a, "out"_a, "run"_a, "shifts"_a, "zero"_a,
               "Codes [rows, C] that were trimmed to shared windows as bytes; false where one does not fit its window.");
    module.def("unpack_shared", &unpack_shared, "bytes"_a, "out"_a, "run"_a, "shifts"_a, "zero"_a,
               "The codes of their packed form: good, wrong_place or beyond_codes.");

    nb::class_<Engine>(module, "Engine", "An immutable plan with its arenas; safe to run from several threads.")
        .def("run", &run, "inputs"_a, "threads"_a, "reals"_a, "keep"_a = false,
             "New arrays [batch, *shape] for the outputs, or with keep for all values in the order of Builder.value. "
             "Inputs hold stored integers; with reals also float32, and results are float32 (positions int64).")
        .def("quick", &quick, "x"_a.none(), "threads"_a, "reals"_a,
             "The one output for the one input, ready as it is; None in every other case, errors too.")
        .def("profile", &profile, "inputs"_a, "threads"_a, "repeats"_a,
             "Least and median nanoseconds of taking the inputs, of every operator, and of giving the outputs.")
        .def(
            "operators", &operators,
            "By operator: bytes of its weights in memory, whether its result is its operand's buffer, and (name, ways, "
            "chosen) of its knobs.")
        .def_prop_ro("isa", [](const Engine& e) { return std::string(e.plan().kernels->isa); })
        .def_prop_ro("arena_bytes", [](const Engine& e) { return e.plan().shared.bytes; })
        .def_prop_ro("copied_inputs", [](const Engine& e) { return copied(e.plan(), e.plan().inputs); })
        .def_prop_ro("copied_outputs", [](const Engine& e) { return copied(e.plan(), e.plan().outputs); })
        .def_prop_ro("families", &families)
        .def_prop_ro("wide_macs", &wide_macs)
        .def_prop_ro("weight_bytes", [](const Engine& e) { return e.plan().weight_bytes; });

    nb::class_<Builder>(module, "Builder", "Collects values and operators; build checks all of them (ValueError).")
        .def(nb::init<>())
        .def("value", &Builder::value, "name"_a, "shape"_a, "storage"_a, "zero_point"_a, "lo"_a, "hi"_a,
             "scale"_a = 1.0, "table"_a = std::vector<std::int32_t>{})
        .def("op", &Builder::op, "kind"_a, "name"_a, "inputs"_a, "output"_a, "attributes"_a, "arrays"_a,
             "choices"_a = std::map<std::string, std::string>{})
        .def("build", &Builder::build, "inputs"_a, "outputs"_a, "weights"_a = "auto",
             "family"_a = "auto");
}
