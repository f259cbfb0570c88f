// How matrices lie in working memory, and what every kernel needs of that.
//
// Two layouts share all kernels. In lanes, every entry is a vector over several matrices: no lane
// idles and no sum crosses lanes, however small the matrices. Along rows, a vector holds neighbouring
// columns of one matrix. Either way a matrix has J vectors of columns; what belongs to a row is a
// vector in lanes (one number per matrix) and a number along rows.
#pragma once

#include <algorithm>

#include "arena.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace softperm {

// What Python hands over. Everything that is not given is 0.
struct Work {
    int64_t batch, m, n, n_iters, kept, log, n_taus, threads, in_lanes;
    double tol, tau;
    const void *x;
    const double *taus, *log_rows, *log_columns;
    void *out;
    int64_t *iters;
    void *error;
    uint8_t *tier; // per matrix: 1 and 2 for scalings in the dtype of x and in float64, 3 for logarithms
    void *steps;         // the scalings of `kept` steps in the dtype of x
    double *more_steps;  // and in float64
    const void *grad;
    void *dx;
    double *d_rows, *d_columns;

    double rate(int64_t b) const { return 1.0 / std::max(n_taus ? taus[n_taus == 1 ? 0 : b] : tau, 1e-300); }
    int64_t steps_per_matrix() const { return kept * m + (kept + 1) * ((n + 15) / 16 * 16); } // any padding
};

template <class T> constexpr T TINY = std::numeric_limits<T>::min();
constexpr double INFINITE = std::numeric_limits<double>::infinity();

template <class T, class W, bool LANES> struct Layout {
    static constexpr int N = LANES_OF<W>, RN = LANES ? N : 1; // numbers per vector, and per row value
    using V = Native<W>;

    const Work& w;
    const int64_t m, n, J, first; // the matrix, or the first of those in lanes
    const int chunks, threads;    // into which the rows of one matrix are shared out
    const int64_t count;          // of matrices in lanes
    Arena& arena = thread_arena();

    Layout(const Work& work, int64_t first_matrix, int parts)
        : w(work), m(work.m), n(work.n), J(LANES ? n : (n + N - 1) / N), first(first_matrix),
          chunks(int(std::min<int64_t>(parts, std::max<int64_t>(m / 16, 1)))), threads(int(work.threads)),
          count(LANES ? std::min<int64_t>(N, work.batch - first) : 1) {}

    int64_t begin(int64_t chunk) const { return chunk == chunks ? m : m * chunk / chunks / 8 * 8; }

    // f(lo, hi, chunk) for the rows of every chunk.
    template <class F> void rows(F f) const {
        auto part = [&](int64_t c) {
            const NoSubnormals mode; // of the thread that does it
            f(begin(c), begin(c + 1), c);
        };
        parallel(chunks, threads, part);
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

    V rates(double bound) const { // 1 / tau, bounded where infinity times 0 would be NaN
        V v{};
        for (int k = 0; k < N; ++k) v[k] = W(std::min(w.rate(first + (LANES ? std::min<int64_t>(k, count - 1) : 0)), bound));
        return v;
    }
    V rates() const { return rates(sizeof(T) == 4 ? 1e38 : INFINITE); }

    // The wanted sums: those of rows, then those of columns, with 0 for padding; or their logarithms.
    void read_sums(W* of_rows, W* of_columns, bool logarithms) const {
        for (int l = 0; l < RN; ++l) {
            const int64_t b = first + std::min<int64_t>(l, count - 1);
            for (int64_t i = 0; i < m; ++i) of_rows[i * RN + l] = one_sum(w.log_rows, b * m + i, logarithms);
            for (int64_t j = 0; j < n; ++j) of_columns[j * RN + l] = one_sum(w.log_columns, b * n + j, logarithms);
        }
        if constexpr (!LANES) {
            std::fill(of_rows + m, of_rows + m + N, W(0));
            std::fill(of_columns + n, of_columns + J * N, W(logarithms ? -INFINITE : 0));
        }
    }
    static W one_sum(const double* logs, int64_t at, bool logarithm) {
        if (!logs) return W(logarithm ? 0 : 1);
        return W(logarithm ? logs[at] : std::exp(logs[at]));
    }

    // Matrices in lanes from and to where each lies by itself.
    void read_lanes(const T* from, W* to) const {
        const int64_t size = m * n;
        const T* source = from + first * size;
        int64_t at = 0;
        if (count == N) {
            for (; at + N <= size; at += N) {
                Vec<T, N> v[N];
                for (int k = 0; k < N; ++k) v[k] = load<Vec<T, N>>(source + k * size + at);
                transpose(v);
                for (int k = 0; k < N; ++k) store(to + (at + k) * N, convert<W>(v[k]));
            }
        }
        for (; at < size; ++at)
            for (int l = 0; l < N; ++l) to[at * N + l] = W(source[std::min<int64_t>(l, count - 1) * size + at]);
    }
    void write_lanes(const W* from, const bool* wanted, T* to) const {
        const int64_t size = m * n;
        T* target = to + first * size;
        int64_t at = 0;
        if (count == N && std::all_of(wanted, wanted + N, [](bool is) { return is; })) {
            for (; at + N <= size; at += N) {
                Vec<T, N> v[N];
                for (int k = 0; k < N; ++k) v[k] = convert<T>(load<V>(from + (at + k) * N));
                transpose(v);
                for (int k = 0; k < N; ++k) store(target + k * size + at, v[k]);
            }
        }
        for (int l = 0; l < count; ++l)
            if (wanted[l])
                for (int64_t k = at; k < size; ++k) target[l * size + k] = T(from[k * N + l]);
    }

    // Vector j of a row of n numbers, `other` beyond its end.
    INLINE V read(const T* line, int64_t j, T other = 0) const {
        using X = Vec<T, N>;
        if ((j + 1) * N <= n) return convert<W>(load<X>(line + j * N));
        return convert<W>(load_first<X>(line + j * N, n - j * N, other));
    }
    INLINE void write(T* line, int64_t j, V v) const {
        const Vec<T, N> x = convert<T>(v);
        if ((j + 1) * N <= n) store(line + j * N, x);
        else
            for (int64_t k = 0; k < n - j * N; ++k) line[j * N + k] = x[k];
    }
    // Row i of a matrix in memory.
    template <class P> P* line(P* matrices, int64_t i) const { return matrices + (first * m + i) * n; }

    // One number per matrix from row values or from a vector.
    void write_numbers(V v, const bool* wanted, T* to) const {
        for (int l = 0; l < (LANES ? count : 1); ++l)
            if (wanted[l]) to[first + l] = T(v[l]);
    }
};

} // namespace softperm
