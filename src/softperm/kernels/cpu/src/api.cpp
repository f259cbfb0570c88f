// The kernels behind a plain C interface. Those of Sinkhorn return how many matrices only logarithms
// could do, or -1 where memory ran out, or -2 where some wait for room to keep their steps in float64.
#include <vector>

#include "assignment.hpp"
#include "logarithms.hpp"
#include "scalings.hpp"

namespace softperm {
namespace {

constexpr int64_t SERIAL_BELOW = 16000; // entries of a batch below which waking a thread does not pay
constexpr int64_t SHARED_FROM = 512 * 512; // entries of a matrix from which sharing out its rows pays

// Whether the rows of one matrix after the other are shared out over the threads.
bool rows_are_shared(const Work& w) { return !w.in_lanes && w.batch < w.threads && w.m * w.n >= SHARED_FROM; }

// Hand the matrices of a tier to an engine, all lanes of it at a time; those that it leaves wanted go to
// the next tier.
template <class Engine> void pass(const Work& w, uint8_t tier, uint8_t next, std::atomic<bool>& failed) {
    constexpr int N = Engine::RN;
    const bool shared = rows_are_shared(w);
    auto unit = [&](int64_t k) {
        bool wanted[Engine::N] = {}, any = false;
        const int64_t first = k * N;
        for (int l = 0; l < N && first + l < w.batch; ++l) any |= wanted[l] = w.tier[first + l] == tier;
        if (!any) return;
        const NoSubnormals mode;
        try {
            Engine engine(w, first, shared ? 2 * int(w.threads) : 1);
            if (w.grad) engine.backward(wanted);
            else engine.forward(wanted);
            thread_arena().reset();
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        for (int l = 0; l < N; ++l)
            if (wanted[l]) w.tier[first + l] = next;
    };
    const bool small = w.batch * w.m * w.n < SERIAL_BELOW;
    parallel((w.batch + N - 1) / N, small || shared ? 1 : int(w.threads), unit);
}

// The backward pass where there is a gradient, else the forward pass, or the rest of it where no first
// tier is given. In the backward pass a matrix whose gradient overflows goes to logarithms at once: its
// scalings in float64 were not kept.
template <class T, bool LANES> int64_t sinkhorn(const Work& w) {
    std::atomic<bool> failed{false};
    if (w.first_tier) std::fill(w.tier, w.tier + w.batch, uint8_t(w.first_tier));
    if (w.first_tier || w.grad) pass<Scalings<T, T, LANES>>(w, 1, sizeof(T) == 4 && !w.grad ? 2 : 3, failed);
    if (w.kept && !w.more_steps && std::count(w.tier, w.tier + w.batch, 2)) return failed ? -1 : -2;
    if constexpr (sizeof(T) == 4) pass<Scalings<T, double, LANES>>(w, 2, 3, failed);
    pass<Logarithms<T, LANES>>(w, 3, 3, failed);
    return failed ? -1 : std::count(w.tier, w.tier + w.batch, 3);
}
template <class T> int64_t sinkhorn(const Work& w) { return w.in_lanes ? sinkhorn<T, true>(w) : sinkhorn<T, false>(w); }

// Matrices to match: each at an address and of a size of its own, or all in one batch.
struct Matches {
    int64_t count, m, n, threads, lists_above;
    const void* const* matrices; // where each begins; null for a batch
    const void *batch, *unmatched;
    const int64_t *n_rows, *n_cols; // null: m and n for all
    int64_t* perm;                  // m indices per matrix of a batch; those of a list follow each other
};

// Matches all; the first matrix that has no assignment, or -1, or -2 where memory ran out.
template <class T> int64_t match(const Matches& a) {
    std::atomic<int64_t> failed{a.count};
    std::atomic<bool> no_memory{false};
    std::vector<int64_t> offsets(a.matrices ? a.count + 1 : 0);
    for (int64_t k = 1; k < int64_t(offsets.size()); ++k) offsets[k] = offsets[k - 1] + a.n_rows[k - 1];
    const int64_t lists_above = a.lists_above < 0 ? LISTS_ABOVE : a.lists_above;
    int64_t entries = 0;
    for (int64_t k = 0; k < a.count; ++k) entries += (a.n_rows ? a.n_rows[k] : a.m) * (a.n_cols ? a.n_cols[k] : a.n);
    auto one = [&](int64_t k) {
        const int64_t m = a.n_rows ? a.n_rows[k] : a.m, n = a.n_cols ? a.n_cols[k] : a.n;
        const int64_t at = a.matrices ? offsets[k] : k * a.m;
        const T* x = a.matrices ? static_cast<const T*>(a.matrices[k]) : static_cast<const T*>(a.batch) + k * a.m * a.n;
        const T* alone = a.unmatched ? static_cast<const T*>(a.unmatched) + at : nullptr;
        try {
            if (!assign<T>({x, m, n, a.matrices ? n : a.n, alone, a.perm + at}, lists_above, thread_arena())) {
                int64_t first = failed;
                while (k < first && !failed.compare_exchange_weak(first, k)) {}
            }
        } catch (const std::bad_alloc&) {
            no_memory = true;
        }
        if (!a.matrices) std::fill(a.perm + at + m, a.perm + at + a.m, -1);
    };
    // Many small matrices are taken several at a time.
    const int64_t group = std::max<int64_t>(1, std::min<int64_t>(SERIAL_BELOW / 8 * a.count / std::max<int64_t>(entries, 1), a.count / 8));
    auto part = [&](int64_t g) {
        for (int64_t k = g * group; k < std::min(a.count, (g + 1) * group); ++k) one(k);
    };
    parallel((a.count + group - 1) / group, entries < SERIAL_BELOW / 4 ? 1 : int(a.threads), part);
    if (no_memory) return -2;
    return failed < a.count ? failed.load() : -1;
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
// What Python hands over, by size: a library of another version takes something else.
EXPORT int64_t softperm_layout() { return sizeof(softperm::Work) * 1000 + sizeof(softperm::Matches); }
// Borrow the threads of OpenMP, in this process alone.
EXPORT void softperm_borrow(softperm::OpenMP start_threads, int64_t process) {
    softperm::openmp = start_threads;
    softperm::openmp_process = int(process);
}
EXPORT int64_t softperm_sinkhorn_f32(const softperm::Work* w) { return softperm::sinkhorn<float>(*w); }
EXPORT int64_t softperm_sinkhorn_f64(const softperm::Work* w) { return softperm::sinkhorn<double>(*w); }
EXPORT int64_t softperm_match_f32(const softperm::Matches* a) { return softperm::match<float>(*a); }
EXPORT int64_t softperm_match_f64(const softperm::Matches* a) { return softperm::match<double>(*a); }
