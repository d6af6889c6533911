// NumPy arrays by the shortest way that Python's C interface offers: the buffer protocol to read them, numpy.empty to
// make them. nanobind's own arrays take several times as long, which a network of a few microseconds would feel.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "subbyte/engine.h"
#include "subbyte/plan.h"

namespace subbyte {

// An array's memory while this lives.
class Buffer {
public:
    // Not held where the object has no C-contiguous memory that may be used so; Python's error is cleared.
    explicit Buffer(PyObject* object, bool writable = false) {
        held_ = PyObject_GetBuffer(object, &view_,
                                   PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) == 0;
        if (!held_) PyErr_Clear();
    }
    ~Buffer() {
        if (held_) PyBuffer_Release(&view_);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    bool held() const { return held_; }
    void* data() const { return view_.buf; }
    // Length of the first axis, 0 where there is none.
    std::int64_t batch() const { return held_ && view_.ndim > 0 ? view_.shape[0] : 0; }

    // What is wrong with it as numbers [batch, *shape] of a value; nullptr where nothing is, and then form says what
    // they are.
    const char* misfit(const Layout& value, std::int64_t batch, bool reals, Form& form) const {
        if (!held_) return " is no C-contiguous array that may be used so";
        if (view_.ndim != static_cast<int>(value.shape.size()) + 1 || view_.shape[0] != batch)
            return " has the wrong shape";
        for (std::size_t i = 0; i < value.shape.size(); ++i) {
            if (view_.shape[i + 1] != value.shape[i]) return " has the wrong shape";
        }
        // One letter stands for the machine's own byte order; misaligned and foreign arrays have a sign before it.
        const char letter =
            view_.format != nullptr && view_.format[0] != '\0' && view_.format[1] == '\0' ? view_.format[0] : '?';
        form = reals && letter == 'f' ? Form::real : Form::stored;
        if (form == Form::stored && letter != (value.storage == Storage::u8 ? 'B' : 'h'))
            return " has the wrong number type";
        if (reinterpret_cast<std::uintptr_t>(view_.buf) % static_cast<std::uintptr_t>(view_.itemsize) != 0)
            return " is not aligned";
        return nullptr;
    }

private:
    Py_buffer view_;  // may point into itself, so it never moves
    bool held_;
};

// The parts of NumPy that runs need, fetched once when the extension is loaded and kept for good.
class NumPy {
public:
    static const NumPy& get() {
        static const NumPy numpy;
        return numpy;
    }

    // Exactly an array: subclasses may mean more than their memory says.
    bool is_array(PyObject* object) const { return Py_TYPE(object) == reinterpret_cast<PyTypeObject*>(array_); }

    // A new array [batch, *shape] for a value's stored integers or, with reals, for what they stand for.
    nanobind::object empty(const Layout& value, std::int64_t batch, bool reals) const {
        const auto shape =
            nanobind::steal<nanobind::object>(PyTuple_New(static_cast<Py_ssize_t>(value.shape.size()) + 1));
        if (!shape.is_valid()) throw nanobind::python_error();
        for (std::size_t i = 0; i <= value.shape.size(); ++i) {
            PyObject* length = PyLong_FromLongLong(i == 0 ? batch : value.shape[i - 1]);
            if (length == nullptr) throw nanobind::python_error();
            PyTuple_SET_ITEM(shape.ptr(), static_cast<Py_ssize_t>(i), length);
        }
        PyObject* arguments[] = {shape.ptr(), dtypes_[dtype(value, reals)]};
        auto made = nanobind::steal<nanobind::object>(PyObject_Vectorcall(empty_, arguments, 2, nullptr));
        if (!made.is_valid()) throw nanobind::python_error();
        return made;
    }

private:
    enum Dtype : std::uint8_t { U8, I16, F32, I64 };

    NumPy() {
        const nanobind::module_ numpy = nanobind::module_::import_("numpy");
        const auto kept = [&](const char* name) { return nanobind::object(numpy.attr(name)).release().ptr(); };
        array_ = kept("ndarray");
        empty_ = kept("empty");
        const char* names[] = {"uint8", "int16", "float32", "int64"};
        for (std::size_t i = 0; i < 4; ++i)
            dtypes_[i] = nanobind::object(numpy.attr("dtype")(names[i])).release().ptr();
    }

    static Dtype dtype(const Layout& value, bool reals) {
        if (reals) return value.position ? I64 : F32;
        return value.storage == Storage::u8 ? U8 : I16;
    }

    PyObject* array_;
    PyObject* empty_;
    PyObject* dtypes_[4];
};

}  // namespace subbyte
