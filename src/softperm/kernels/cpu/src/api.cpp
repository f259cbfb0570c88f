// The kernels behind a plain C interface. Every function returns how many matrices could not be done
// by scalings, or -1 where memory ran out.
#include <vector>

#include "logarithms.hpp"
#include "scalings.hpp"

namespace softperm {
namespace {

constexpr int64_t SERIAL_BELOW = 16000; // entries of a batch below which waking a thread does not pay
constexpr int64_t SHARED_FROM = 512 * 512; // entries of a matrix from which sharing out its rows pays

bool any(const bool* flags, int64_t count) {
    return std::any_of(flags, flags + count, [](bool is) { return is; });
}

// The wanted ones of N matrices in lanes of T; those left over as `again` takes them, by lanes of float64.
template <class T, class First, class Again> void in_lanes(const Work& w, int64_t first, First once, Again again) {
    constexpr int N = LANES_OF<T>, HALF = LANES_OF<double>;
    bool wanted[N];
    for (int l = 0; l < N; ++l) wanted[l] = first + l < w.batch;
    once(first, wanted);
    for (int l = 0; l < N; l += HALF)
        if (any(wanted + l, HALF)) again(first + l, wanted + l);
}

template <class T> void forward_lanes(const Work& w, int64_t first) {
    in_lanes<T>(
        w, first, [&](int64_t b, bool* wanted) { Scalings<T, T, true>(w, b, 1).forward(wanted); },
        [&](int64_t b, bool* wanted) {
            if (sizeof(T) == 4) Scalings<T, double, true>(w, b, 1).forward(wanted);
            if (any(wanted, LANES_OF<double>)) Logarithms<T, true>(w, b, 1).forward(wanted);
        });
}

template <class T> void forward_rows(const Work& w, int64_t b, int parts) {
    bool wanted[16] = {true};
    Scalings<T, T, false>(w, b, parts).forward(wanted);
    if (wanted[0] && sizeof(T) == 4) Scalings<T, double, false>(w, b, parts).forward(wanted);
    if (wanted[0]) Logarithms<T, false>(w, b, parts).forward(wanted);
}

template <class T> void backward_lanes(const Work& w, int64_t first) {
    auto of_tier = [&](int64_t b, const bool* wanted, int count, int tier, bool* some) {
        for (int l = 0; l < count; ++l) some[l] = wanted[l] && w.tier[b + l] == tier;
        return any(some, count);
    };
    in_lanes<T>(
        w, first,
        [&](int64_t b, bool* wanted) {
            bool some[LANES_OF<T>];
            if (!of_tier(b, wanted, LANES_OF<T>, 1, some)) return;
            bool left[LANES_OF<T>];
            std::copy(some, some + LANES_OF<T>, left);
            Scalings<T, T, true>(w, b, 1).backward(left, w.n_iters);
            for (int l = 0; l < LANES_OF<T>; ++l) wanted[l] = wanted[l] && (!some[l] || left[l]);
        },
        [&](int64_t b, bool* wanted) {
            bool some[LANES_OF<double>];
            if (sizeof(T) == 4 && of_tier(b, wanted, LANES_OF<double>, 2, some)) {
                bool left[LANES_OF<double>];
                std::copy(some, some + LANES_OF<double>, left);
                Scalings<T, double, true>(w, b, 1).backward(left, w.n_iters);
                for (int l = 0; l < LANES_OF<double>; ++l) wanted[l] = wanted[l] && (!some[l] || left[l]);
            }
            if (any(wanted, LANES_OF<double>)) Logarithms<T, true>(w, b, 1).backward(wanted, w.n_iters);
        });
}

template <class T> void backward_rows(const Work& w, int64_t b, int parts) {
    bool wanted[16] = {true};
    const int64_t steps = w.iters[b];
    if (w.tier[b] == 1) Scalings<T, T, false>(w, b, parts).backward(wanted, steps);
    if (w.tier[b] == 2 && sizeof(T) == 4) Scalings<T, double, false>(w, b, parts).backward(wanted, steps);
    if (wanted[0]) Logarithms<T, false>(w, b, parts).backward(wanted, steps);
}

// Does all units of work: blocks of matrices in lanes, matrices, or one matrix after the other with its
// rows shared out.
template <class T, class L, class R> int64_t run(const Work& w, L in_lanes, R along_rows) {
    const bool small = w.batch * w.m * w.n < SERIAL_BELOW;
    const int threads = small ? 1 : int(w.threads);
    const bool shared = w.batch < threads && w.m * w.n >= SHARED_FROM;
    std::atomic<bool> failed{false};
    auto unit = [&](int64_t k) {
        try {
            if (w.in_lanes) in_lanes(k * LANES_OF<T>);
            else along_rows(k, shared ? 2 * threads : 1);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    };
    const int64_t units = w.in_lanes ? (w.batch + LANES_OF<T> - 1) / LANES_OF<T> : w.batch;
    parallel(units, shared ? 1 : threads, unit);
    if (failed) return -1;
    return std::count(w.tier, w.tier + w.batch, 3);
}

template <class T> int64_t forward(const Work& w) {
    return run<T>(
        w, [&](int64_t first) { forward_lanes<T>(w, first); }, [&](int64_t b, int parts) { forward_rows<T>(w, b, parts); });
}
template <class T> int64_t backward(const Work& w) {
    return run<T>(
        w, [&](int64_t first) { backward_lanes<T>(w, first); }, [&](int64_t b, int parts) { backward_rows<T>(w, b, parts); });
}

} // namespace
} // namespace softperm

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Which of the libraries built for this platform is the best that this processor can run.
EXPORT int64_t softperm_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) return 0;
    for (bool has : {__builtin_cpu_supports("avx512f") != 0, __builtin_cpu_supports("avx512bw") != 0,
                     __builtin_cpu_supports("avx512cd") != 0, __builtin_cpu_supports("avx512dq") != 0,
                     __builtin_cpu_supports("avx512vl") != 0})
        if (!has) return 1;
    return 2;
#else
    return 0;
#endif
}
// Borrow the threads of OpenMP, in this process alone.
EXPORT void softperm_borrow(softperm::OpenMP start_threads, int64_t process) {
    softperm::openmp = start_threads;
    softperm::openmp_process = int(process);
}
EXPORT int64_t softperm_forward_f32(const softperm::Work* w) { return softperm::forward<float>(*w); }
EXPORT int64_t softperm_forward_f64(const softperm::Work* w) { return softperm::forward<double>(*w); }
EXPORT int64_t softperm_backward_f32(const softperm::Work* w) { return softperm::backward<float>(*w); }
EXPORT int64_t softperm_backward_f64(const softperm::Work* w) { return softperm::backward<double>(*w); }
