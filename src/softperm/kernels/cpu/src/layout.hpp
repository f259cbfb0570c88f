// How matrices lie in working memory, and what every kernel needs of that.
//
// Two layouts share all kernels. In lanes, every entry is a vector over several matrices: no lane
// idles and no sum crosses lanes, however small the matrices. Along rows, a vector holds neighbouring
// columns of one matrix. Either way a row is a number of vectors, b_size numbers; what belongs to a row
// is a vector in lanes (one number per matrix) and a number along rows.
#pragma once

#include <algorithm>

#include "arena.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace softperm {

// What Python hands over. Everything that is not given is 0.
struct Work {
    int64_t batch, m, n, n_iters, log, threads, in_lanes, n_taus;
    int64_t first_tier, kept; // first_tier: of all matrices, or 0 where each has its own
    double tol, tau;
    const void* x;
    const double *taus, *log_rows, *log_columns;
    void* out;
    int64_t* iters;
    void* error;
    uint8_t* tier; // per matrix: 1 and 2 for scalings in the dtype of x and in float64, 3 for logarithms
    void* steps; // the scalings of `kept` steps in the dtype of x
    double* more_steps; // and in float64, once some matrix needs it
    const void* grad;
    void* dx;
    double *d_rows, *d_columns;

    int64_t numbers_kept() const { return kept * m + (kept + 1) * ((n + 15) / 16 * 16); } // per matrix
    double rate(int64_t b) const { return 1.0 / std::max(n_taus ? taus[n_taus == 1 ? 0 : b] : tau, 1e-300); }
};

template <class T> constexpr T TINY = std::numeric_limits<T>::min();
constexpr double INFINITE = std::numeric_limits<double>::infinity();

template <class T, class W, bool LANES> struct Layout {
    static constexpr int N = LANES_OF<W>, RN = LANES ? N : 1; // numbers per vector, and per row value
    using V = Native<W>;
    using X = Vec<T, N>;

    const Work& w;
    const int64_t m, n, first, count; // the matrix, or the first of those in lanes, and how many
    const int64_t a_size, b_size;     // numbers of a value per row, and of one per column
    const int chunks;                 // into which the rows of one matrix are shared out
    const T *x, *grad;
    T *out, *dx;
    Arena& arena = thread_arena();
    W *acc, *of_rows, *of_columns;             // column sums of every chunk; wanted sums or their logarithms
    V least_sum = splat<V>(1);                 // the smallest wanted sum, or 1
    W *as = nullptr, *bs = nullptr;            // scalings of rows and columns of the last `depth` steps
    int64_t depth = 2;
    double error = INFINITE;                   // the last that was looked at to see whether to stop
    mutable bool other_way = false;            // of the next pass over the rows

    Layout(const Work& work, int64_t first, int parts, bool logarithms)
        : w(work), m(work.m), n(work.n), first(first), count(std::min<int64_t>(RN, work.batch - first)),
          a_size(m * RN), b_size((n + N / RN - 1) / (N / RN) * N),
          chunks(int(std::min<int64_t>(parts, std::max<int64_t>(m / 16, 1)))), x(at_first<const T>(w.x)),
          grad(at_first<const T>(w.grad)), out(at_first<T>(w.out)), dx(at_first<T>(w.dx)) {
        arena.reset();
        acc = take(chunks * column_stride());
        of_rows = take(a_size);
        of_columns = take(b_size);
        read_sums(logarithms);
    }
    W* take(int64_t count) const { return arena.template take<W>(count + N); }
    template <class P, class Void> P* at_first(Void* matrices) const {
        return matrices ? static_cast<P*>(matrices) + first * m * n : nullptr;
    }

    // Row scalings of step t, and column scalings before it.
    void use_steps(int64_t steps, W* place) {
        depth = steps;
        as = place;
        bs = as + steps * a_size;
    }
    void take_steps(int64_t steps) { use_steps(steps, take(steps * a_size + (steps + 1) * b_size)); }
    W* A(int64_t t) const { return as + t % depth * a_size; }
    W* B(int64_t t) const { return bs + t % (depth + 1) * b_size; }

    // f(lo, hi, chunk) for the rows of every chunk. The two chunks of a thread take turns in being the
    // first: what the pass before did last is still in the second cache.
    template <class F> void rows(F f) const {
        auto begin = [&](int64_t chunk) { return chunk == chunks ? m : m * chunk / chunks / 8 * 8; };
        const bool exchange = other_way && chunks % 2 == 0;
        other_way = !other_way;
        auto part = [&](int64_t k) {
            const int64_t c = exchange ? k ^ 1 : k;
            const NoSubnormals mode; // of the thread that does it
            f(begin(c), begin(c + 1), c);
        };
        parallel(chunks, int(w.threads), part);
    }
    // f(i, sums, more) for every row i: it adds to the column sums of its chunk, and to one vector, which
    // is left behind these.
    template <class F> void each_row(F f) const {
        rows([&](int64_t lo, int64_t hi, int64_t c) {
            W* sums = column_sums(c);
            std::fill(sums, sums + b_size, W(0));
            V more = {};
            for (int64_t i = lo; i < hi; ++i) f(i, sums, more);
            store(sums + b_size, more);
        });
    }
    int64_t column_stride() const { return b_size + N; }
    W* column_sums(int64_t chunk) const { return acc + chunk * column_stride(); }
    // The sum over chunks of what is at position j of their column sums.
    INLINE V over_chunks(int64_t j) const {
        V v = load<V>(acc + j);
        for (int c = 1; c < chunks; ++c) v += load<V>(column_sums(c) + j);
        return v;
    }

    // A row's value as a vector.
    static INLINE V row(const W* values, int64_t i) {
        if constexpr (LANES) return load<V>(values + i * N);
        else return splat<V>(values[i]);
    }
    static INLINE void set_row(W* values, int64_t i, V v) {
        if constexpr (LANES) store(values + i * N, v);
        else values[i] = v[0];
    }
    // Over all columns: each lane's own in lanes, the whole vector's along rows.
    static INLINE V sum(V v) {
        if constexpr (LANES) return v;
        else return splat<V>(total(v));
    }
    static INLINE V most(V v) {
        if constexpr (LANES) return v;
        else return splat<V>(largest(v));
    }

    V rates(double bound = sizeof(T) == 4 ? 1e38 : INFINITE) const { // 1 / tau; infinity times 0 is NaN
        V v{};
        for (int k = 0; k < N; ++k) v[k] = W(std::min(w.rate(first + std::min<int64_t>(k, count - 1)), bound));
        return v;
    }

    // The wanted sums, with 0 for padding; or their logarithms.
    void read_sums(bool logarithms) {
        using D = Native<double>;
        auto read = [&](const double* logs, int64_t lines, W* to, int64_t size) {
            std::fill(to, to + lines * RN, W(logarithms ? 0 : 1));
            std::fill(to + lines * RN, to + size, W(logarithms ? -INFINITE : 0));
            for (int64_t l = 0; l < RN && logs; ++l) {
                D least{};
                for (int64_t k = 0; k < lines; k += SIZE<D>) {
                    const int64_t left = lines - k;
                    D v = load_up_to<D>(logs + (first + std::min(l, count - 1)) * lines + k, left, 0);
                    least = minimum(least, v == -INFINITE ? D{} : v);
                    if (!logarithms) v = exp(v);
                    for (int q = 0; q < SIZE<D> && q < left; ++q) to[(k + q) * RN + l] = W(v[q]);
                }
                const V all = splat<V>(W(std::exp(-largest(-least))));
                if (LANES) least_sum[l] = std::min(least_sum[l], all[0]);
                else least_sum = minimum(least_sum, all);
            }
        };
        read(w.log_rows, m, of_rows, a_size + N);
        read(w.log_columns, n, of_columns, b_size);
    }

    // Matrices in lanes from and to where each lies by itself.
    void read_lanes(const T* from, W* to) const {
        const int64_t size = m * n;
        int64_t at = 0;
        for (; LANES && at + N <= size; at += N) {
            X v[N];
            for (int64_t l = 0; l < N; ++l) v[l] = load<X>(from + std::min(l, count - 1) * size + at);
            transpose(v);
            for (int k = 0; k < N; ++k) store(to + (at + k) * N, convert<W>(v[k]));
        }
        for (; LANES && at < size; ++at)
            for (int64_t l = 0; l < N; ++l) to[at * N + l] = W(from[std::min(l, count - 1) * size + at]);
    }
    void write_lanes(const W* from, const bool* wanted, T* to) const {
        const int64_t size = m * n;
        int64_t at = 0;
        for (; LANES && at + N <= size; at += N) {
            X v[N];
            for (int k = 0; k < N; ++k) v[k] = convert<T>(load<V>(from + (at + k) * N));
            transpose(v);
            for (int l = 0; l < N; ++l)
                if (wanted[l]) store(to + l * size + at, v[l]);
        }
        for (int l = 0; LANES && l < count; ++l)
            for (int64_t k = at; wanted[l] && k < size; ++k) to[l * size + k] = T(from[k * N + l]);
    }
    // f(j, whole) for every vector of columns. Only the last may not be whole: if all were asked, reading
    // and writing one would take longer than what is done with it.
    template <class F> INLINE void each_column(F f) const {
        int64_t j = 0;
        for (; j + N <= (LANES ? b_size : n); j += N) f(j, std::true_type());
        if (j < b_size) f(j, std::false_type());
    }
    // Columns j and following of row i, `other` beyond its end: from where matrices were read to in
    // lanes, else from memory. And back.
    template <class Whole> INLINE V entry(const T* from, const W* lanes, int64_t i, int64_t j, Whole, T other = 0) const {
        if constexpr (LANES) return load<V>(lanes + i * b_size + j);
        else if constexpr (Whole::value) return convert<W>(load<X>(from + i * n + j));
        else return convert<W>(load_up_to<X>(from + i * n + j, n - j, other));
    }
    template <class Whole> INLINE void put(T* to, W* lanes, int64_t i, int64_t j, Whole, V v) const {
        if constexpr (LANES) store(lanes + i * b_size + j, v);
        else if constexpr (Whole::value) store(to + i * n + j, convert<T>(v));
        else store_up_to(to + i * n + j, n - j, convert<T>(v));
    }

    // Says of the good matrices what was done, and that they are wanted no more.
    void note(const bool* good, bool* wanted, V worst, int64_t done) const {
        for (int l = 0; l < count; ++l) {
            if (!good[l]) continue;
            wanted[l] = false;
            if (w.error) static_cast<T*>(w.error)[first + l] = T(error < w.tol ? error : worst[l]);
            if (w.iters) w.iters[first + l] = done;
        }
    }
    // The gradients with respect to the logarithms of the wanted sums, likewise.
    void note_gradients(const bool* good, bool* wanted, const W* d_rows, const W* d_columns) const {
        for (int l = 0; l < count; ++l) {
            if (!good[l]) continue;
            wanted[l] = false;
            for (int64_t i = 0; w.d_rows && i < m; ++i) w.d_rows[(first + l) * m + i] = d_rows[i * RN + l];
            for (int64_t j = 0; w.d_columns && j < n; ++j) w.d_columns[(first + l) * n + j] = d_columns[j * RN + l];
        }
    }
};

} // namespace softperm
