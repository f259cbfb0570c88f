// Sinkhorn by scalings: for all but the lowest temperatures.
//
// With X = log_alpha / tau and K = exp(X - row maximum) the iterate is S_ij = a_i K_ij b_j. Only the
// scalings change: one pass over K does a row and a column step. What underflows, in K or times a
// scaling, cannot be noticed as long as the scalings stay small enough, compared with the smallest wanted
// sum; where they do not, the kernel says so. The reverse pass needs the scalings of every step, and
// works on S with scalings relative to the last ones, or, where K is float64 and S is not (entries of S
// may underflow that mattered before), on K itself.
#pragma once

#include "layout.hpp"

namespace softperm {

template <class T, class W, bool LANES> struct Scalings : Layout<T, W, LANES> {
    using Base = Layout<T, W, LANES>;
    using Base::N, Base::RN, Base::count, Base::first, Base::m, Base::n, Base::w, Base::chunks, Base::take;
    using Base::x, Base::grad, Base::out, Base::dx, Base::a_size, Base::b_size, Base::of_rows, Base::of_columns;
    using Base::A, Base::B, Base::over_chunks, Base::column_sums, Base::row, Base::set_row, Base::entry;
    using typename Base::V;
    static constexpr bool ON_S = std::is_same_v<T, W>;
    static constexpr double LARGEST = sizeof(W) == 4 ? 1e30 : ON_S ? 1e280 : 1e290; // product of scalings
    static constexpr int GROUP = LANES ? 4 : REGISTERS / 4; // rows that are multiplied at a time
    static constexpr int64_t FIRST_CACHE = 26000;           // bytes of two such groups
    static constexpr int64_t SECOND_CACHE = 3 << 19;        // bytes of a matrix

    // Row i of K is at K + i stride; but with the matrix in place, unpadded, what does not fill a vector
    // is in `tails`. The maxima of rows.
    W *K, *tails, *top;
    int64_t stride = b_size, whole = b_size;

    // The matrix lies where the result will be if its rows are whole vectors, or too many for a copy.
    Scalings(const Work& work, int64_t first, int parts) : Base(work, first, parts, false) {
        T* place = w.log && grad ? dx : out;
        const bool in_place = ON_S && !LANES && (n == b_size || m * n * int64_t(sizeof(W)) > SECOND_CACHE);
        K = tails = take(in_place ? m * N : m * b_size);
        if (in_place) {
            K = reinterpret_cast<W*>(place);
            stride = n;
            whole = n / N * N;
        }
        top = take(a_size);
        W* kept = static_cast<W*>(ON_S ? w.steps : w.more_steps);
        if (w.kept) this->use_steps(w.kept, kept + first * w.numbers_kept());
        else this->take_steps(2);
    }

    INLINE W* at(int64_t i, int64_t j) const {
        if constexpr (LANES || !ON_S) return K + i * b_size + j;
        else return j < whole ? K + i * stride + j : tails + i * N;
    }

    // One pass over rows lo to hi of K: s_i = f(K_i . y, i), sums = sum_i s_i K_i; returns the sum of s.
    // A group of rows is multiplied while the one before, still in the first cache, is added.
    template <int G, class F> V sweep_groups(int64_t lo, int64_t hi, const W* y, F f, W* s, W* sums) const {
        V factors[G] = {}, all = {};
        const int64_t whole = this->whole, stride = this->stride;
        const W *K = this->K, *tails = this->tails;
        int64_t before = lo;
        for (int64_t group = lo; group < hi; group += G) {
            const int64_t i = std::min(group, hi - G);
            V r[G] = {};
            auto column = [&](int64_t j, const W* old, const W* now, int64_t step) INLINE_LAMBDA {
                V more = load<V>(sums + j);
                const V factor = load<V>(y + j);
                for (int k = 0; k < G; ++k) {
                    more += factors[k] * load<V>(old + k * step);
                    r[k] += load<V>(now + k * step) * factor;
                }
                store(sums + j, more);
            };
            for (int64_t j = 0; j < whole; j += N) column(j, K + before * stride + j, K + i * stride + j, stride);
            if (whole < b_size) column(whole, tails + before * N, tails + i * N, N);
            if constexpr (LANES) {
                for (int k = 0; k < G; ++k) {
                    factors[k] = f(r[k], (i + k) * N);
                    store(s + (i + k) * N, factors[k]);
                    all += factors[k];
                }
            } else {
                constexpr int PART = G < N ? G : N;
                for (int part = 0; part < G; part += PART) {
                    const V values = f(totals<PART>(r + part), i + part);
                    std::memcpy(s + i + part, &values, PART * sizeof(W));
                    for (int k = 0; k < PART; ++k) factors[part + k] = splat<V>(values[k]);
                    all += values;
                }
            }
            for (int k = 0; k < group - i; ++k) factors[k] = V{};
            before = i;
        }
        for (int64_t j = 0; j < b_size; j += N) {
            V more = load<V>(sums + j);
            for (int k = 0; k < G; ++k) more += factors[k] * load<V>(at(before + k, j));
            store(sums + j, more);
        }
        if constexpr (!LANES)
            for (int k = G; k < N; ++k) all[k] = 0; // of no row
        return all;
    }
    // The same for all chunks of rows, each with column sums of its own, behind which is its sum of s.
    template <class F> void sweep(const W* y, F f, W* s) const {
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            W* sums = column_sums(c);
            std::fill(sums, sums + b_size, W(0));
            V all = {};
            const bool fit = 2 * GROUP * b_size * int64_t(sizeof(W)) <= FIRST_CACHE;
            if (hi - lo >= GROUP && fit) all = sweep_groups<GROUP>(lo, hi, y, f, s, sums);
            else if (hi - lo >= 4) all = sweep_groups<4>(lo, hi, y, f, s, sums);
            else
                for (int64_t i = lo; i < hi; ++i) all += sweep_groups<1>(i, i + 1, y, f, s, sums);
            store(sums + b_size, this->sum(all));
        });
    }

    // K, the maxima of its rows, which are 0 for rows of -inf alone, and the first step by rows, as
    // `sweep` does it, while the rows are at hand: of R of them.
    template <int R> INLINE void exponential_rows(int64_t i, V rate, W* a, const W* b, W* sums, V& all) {
        V high[R], r[R] = {};
        for (int k = 0; k < R; ++k) high[k] = splat<V>(-INFINITE);
        this->each_column([&](int64_t j, auto whole) INLINE_LAMBDA {
            for (int k = 0; k < R; ++k) {
                const V value = entry(x, K, i + k, j, whole, T(-INFINITE));
                if (!LANES) store(at(i + k, j), value);
                high[k] = maximum(high[k], value);
            }
        });
        for (int k = 0; k < R; ++k) {
            high[k] = this->most(high[k]);
            high[k] = high[k] == W(-INFINITE) ? V{} : high[k];
            set_row(top, i + k, high[k]);
        }
        for (int64_t j = 0; j < b_size; j += N) {
            const V factor = load<V>(b + j);
            for (int k = 0; k < R; ++k) {
                const V e = exp((load<V>(at(i + k, j)) - high[k]) * rate);
                r[k] += e * factor;
                store(at(i + k, j), e);
            }
        }
        for (int k = 0; k < R; ++k) {
            r[k] = row(of_rows, i + k) / maximum(this->sum(r[k]), splat<V>(TINY<W>));
            set_row(a, i + k, r[k]);
            all += r[k];
        }
        for (int64_t j = 0; j < b_size; j += N) {
            V more = load<V>(sums + j);
            for (int k = 0; k < R; ++k) more += r[k] * load<V>(at(i + k, j));
            store(sums + j, more);
        }
    }
    void exponentials(W* a, const W* b) {
        const V rate = this->rates(sizeof(W) == 4 ? 1e38 : INFINITE);
        this->read_lanes(x, K);
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            constexpr int R = 2;
            const bool fit = R * b_size * int64_t(sizeof(W)) <= FIRST_CACHE;
            W* sums = column_sums(c);
            std::fill(sums, sums + b_size, W(0));
            V all = {};
            int64_t i = lo;
            for (; fit && i + R <= hi; i += R) exponential_rows<R>(i, rate, a, b, sums, all);
            for (; i < hi; ++i) exponential_rows<1>(i, rate, a, b, sums, all);
            store(sums + b_size, all);
        });
    }

    // The largest distance of a row sum from the wanted one after a step, from the next row scalings.
    double row_error(const W* a, const W* next) const {
        double worst = 0;
        for (int64_t i = 0; i < m; ++i)
            if (of_rows[i] > 0) worst = std::max(worst, std::abs(double(a[i]) / next[i] - 1.0) * of_rows[i]);
        return worst;
    }

    // Whether less than half of the matrices have it.
    bool few(IntVec<V> has) const {
        int64_t number = 0;
        for (int l = 0; l < count; ++l) number += has[l] != 0;
        return 2 * number < count;
    }

    // Does the steps; says how many, and which matrices stayed in the safe range.
    int64_t iterate(IntVec<V>& safe) {
        V most_a = {}, most_b = {};
        safe = this->rates() < W(LARGEST); // beyond, differences between subnormal scores matter
        for (int64_t j = 0; j < b_size; j += N) store(B(0) + j, load<V>(of_columns + j) > 0 ? splat<V>(1) : V{});
        exponentials(A(0), B(0));
        const V least = W(LARGEST) * this->least_sum;
        const W* wanted = of_rows;
        auto scaling = [wanted](V r, int64_t i) INLINE_LAMBDA { return load<V>(wanted + i) / maximum(r, splat<V>(TINY<W>)); };
        for (int64_t t = 0; t < w.n_iters; ++t) {
            if (t > 0) sweep(B(t), scaling, A(t));
            if (!LANES && w.tol > 0 && t > 0 && (this->error = row_error(A(t - 1), A(t))) < w.tol) return t;
            V sum_b = {};
            W* b = B(t + 1);
            for (int64_t j = 0; j < b_size; j += N) {
                const V v = load<V>(of_columns + j) / maximum(over_chunks(j), splat<V>(TINY<W>));
                sum_b += v;
                store(b + j, v);
            }
            most_a = maximum(most_a, over_chunks(b_size));
            most_b = maximum(most_b, this->sum(sum_b));
            safe &= (1 + most_a) * (1 + most_b) <= least;
            if ((!LANES || t % 4 == 3) && few(safe)) {
                safe = IntVec<V>{}; // the engine that has to do the others takes these along
                return t + 1;
            }
        }
        return w.n_iters;
    }

    // Writes S of the good matrices; the largest row error.
    V write_result(const W* a, const W* b, const bool* good) {
        this->each_row([&](int64_t i, W*, V& worst) {
            V row_sum = {};
            const V scaling = row(a, i);
            this->each_column([&](int64_t j, auto whole) INLINE_LAMBDA {
                const V s = scaling * load<V>(at(i, j)) * load<V>(b + j);
                row_sum += s;
                this->put(out, K, i, j, whole, s);
            });
            worst = maximum(worst, absolute(this->sum(row_sum) - row(of_rows, i)));
        });
        this->write_lanes(K, good, out);
        V worst = {};
        for (int c = 0; c < chunks; ++c) worst = maximum(worst, load<V>(column_sums(c) + b_size));
        return worst;
    }

    // log S from the scalings alone, exact where S underflows.
    void write_logarithm(const W* a, const W* b, const bool* good) {
        auto log_of = [](W s) { return s > 0 ? std::log(double(s)) : -INFINITE; };
        double* v = this->arena.template take<double>(b_size);
        std::transform(b, b + b_size, v, log_of);
        this->each_row([&](int64_t i, W*, V&) {
            for (int l = 0; l < count; ++l) {
                if (!good[l]) continue;
                const T* from = x + (l * m + i) * n;
                T* to = out + (l * m + i) * n;
                const double rate = w.rate(first + l), high = top[i * RN + l], u = log_of(a[i * RN + l]);
                for (int64_t j = 0; j < n; ++j) to[j] = T((double(from[j]) - high) * rate + (u + v[j * RN + l]));
            }
        });
    }

    // Makes kept scalings relative to the last ones.
    static void divide(W* steps, int64_t count, int64_t size) {
        W* last = steps + (count - 1) * size;
        for (int64_t k = 0; k < size; ++k) last[k] = last[k] > 0 ? 1 / last[k] : 0;
        for (W* s = steps; s < last; s += size)
            for (int64_t k = 0; k < size; ++k) s[k] *= last[k];
        for (int64_t k = 0; k < size; ++k) last[k] = last[k] > 0;
    }

    // Results of the wanted matrices that stay safe; the others stay wanted.
    void forward(bool* wanted) {
        IntVec<V> safe;
        const int64_t done = iterate(safe);
        bool good[N] = {};
        for (int l = 0; l < count; ++l) good[l] = wanted[l] && safe[l];
        if (std::none_of(good, good + count, [](bool is) { return is; })) return;
        const W *a = A(done - 1), *b = B(done);
        const V worst = write_result(a, b, good);
        if (w.log) write_logarithm(a, b, good);
        this->note(good, wanted, worst, done);
        if (!ON_S || done > w.kept) return;
        divide(A(0), done, a_size);
        divide(B(0), done + 1, b_size);
    }

    // ---- the reverse pass ----

    W *P, *Q, *du, *dv, *G;

    // K becomes the matrix to work on; the gradient with respect to log S is summed along rows into du and
    // along columns into dv.
    void start(const W* a, const W* b) {
        if constexpr (ON_S) this->read_lanes(out, K);
        else exponentials(Q, B(0));
        this->read_lanes(grad, G);
        const bool log = w.log, copied = log || static_cast<void*>(K) != out;
        this->each_row([&](int64_t i, W* sums, V&) {
            V row_sum = {};
            const V scaling = row(a, i);
            this->each_column([&](int64_t j, auto is_whole) INLINE_LAMBDA {
                W* k = at(i, j);
                V s = ON_S ? entry(out, K, i, j, is_whole, T(log ? -INFINITE : 0)) : load<V>(k);
                if (ON_S && log) s = exp(s);
                if (ON_S && (copied || j >= whole)) store(k, s);
                V g = entry(grad, G, i, j, is_whole);
                if (!log) g *= ON_S ? s : s * scaling * load<V>(b + j);
                row_sum += g;
                store(sums + j, load<V>(sums + j) + g);
            });
            set_row(du, i, this->sum(row_sum));
        });
        for (int64_t j = 0; j < b_size; j += N) store(dv + j, over_chunks(j));
    }

    // The gradient by way of the scalings of every step: the column steps' part is
    // -K_ij sum_t A_ti P_tj, the row steps' -K_ij sum_t Q_ti B_tj. The logarithms of the wanted sums
    // have every step's gradient of its scalings.
    void reverse(int64_t steps, W* d_rows, W* d_columns) {
        for (int64_t t = steps - 1; t >= 0; --t) {
            W *a = A(t), *q = Q + t * a_size, *p = P + t * b_size;
            for (int64_t j = 0; j < b_size; j += N) {
                const V wanted = load<V>(of_columns + j), d = wanted > 0 ? load<V>(dv + j) : V{};
                store(d_columns + j, load<V>(d_columns + j) + d);
                store(p + j, load<V>(B(t + 1) + j) * d / maximum(wanted, splat<V>(TINY<W>)));
            }
            auto gradient = [a, du = du, sums = of_rows](V r, int64_t i) INLINE_LAMBDA {
                const V scaling = load<V>(a + i);
                return scaling * (load<V>(du + i) - scaling * r) / maximum(load<V>(sums + i), splat<V>(TINY<W>));
            };
            sweep(p, gradient, q);
            for (int64_t k = 0; w.d_rows && k < a_size; ++k) d_rows[k] += a[k] > 0 ? q[k] * of_rows[k] / a[k] : 0;
            if (t == steps - 1) std::fill(du, du + a_size, W(0));
            for (int64_t j = 0; j < b_size; j += N) store(dv + j, -(load<V>(B(t) + j) * over_chunks(j)));
        }
    }

    // Rows i to i + R and C vectors of columns from j of dx; infinity and NaN show in `check`.
    template <int R, int C, class Whole> INLINE void finish_tile(int64_t i, int64_t j, Whole whole, int64_t steps, V rate, V& check) {
        V sums[R][C] = {};
        const W *ps = P + j, *bs = this->bs + j, *as = this->as + i * RN, *qs = Q + i * RN;
        for (int64_t t = 0; t < steps; ++t, ps += b_size, bs += b_size, as += a_size, qs += a_size) {
            V p[C], b[C];
            for (int c = 0; c < C; ++c) {
                p[c] = load<V>(ps + c * N);
                b[c] = load<V>(bs + c * N);
            }
            for (int r = 0; r < R; ++r) {
                const V a = row(as, r), q = row(qs, r);
                for (int c = 0; c < C; ++c) sums[r][c] += a * p[c] + q * b[c];
            }
        }
        const W *last_a = A(steps - 1), *last_b = B(steps);
        const bool log = w.log;
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) {
                const int64_t col = j + c * N;
                const V k = load<V>(at(i + r, col)), g = entry(grad, G, i + r, col, whole);
                V d = ON_S ? g : g * row(last_a, i + r) * load<V>(last_b + col);
                d = log ? g - k * sums[r][c] : k * (d - sums[r][c]);
                d = k == 0 ? (log ? g : V{}) : d; // not infinity times 0
                d *= rate;
                check += d * 0;
                this->put(dx, K, i + r, col, whole, d);
            }
    }
    template <int R> INLINE void finish_rows(int64_t i, int64_t steps, V rate, V& check) {
        constexpr int C = REGISTERS / 8;
        int64_t j = 0;
        for (; j + C * N <= (LANES ? b_size : n); j += C * N) finish_tile<R, C>(i, j, std::true_type(), steps, rate, check);
        for (; j < b_size; j += N) finish_tile<R, 1>(i, j, std::false_type(), steps, rate, check);
    }

    // The gradients of the wanted matrices, which all did so many steps. Where one overflows it stays
    // wanted.
    void backward(bool* wanted) {
        const int64_t steps = w.iters ? w.iters[first] : w.n_iters;
        P = take(steps * b_size);
        Q = take(steps * a_size);
        du = take(a_size);
        dv = take(b_size);
        G = take(LANES ? m * b_size : 0);
        W *d_rows = take(a_size), *d_columns = take(b_size);
        std::fill(d_rows, d_rows + a_size, W(0));
        std::fill(d_columns, d_columns + b_size, W(0));
        start(A(steps - 1), B(steps));
        reverse(steps, d_rows, d_columns);
        const V rate = this->rates();
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            constexpr int R = REGISTERS / 8;
            V check = {};
            int64_t i = lo;
            for (; i + R <= hi; i += R) finish_rows<R>(i, steps, rate, check);
            for (; i < hi; ++i) finish_rows<1>(i, steps, rate, check);
            store(column_sums(c), this->sum(check));
        });
        const V check = over_chunks(0);
        bool good[N] = {};
        for (int l = 0; l < count; ++l) good[l] = wanted[l] && check[l] == 0;
        this->write_lanes(K, good, dx);
        this->note_gradients(good, wanted, d_rows, d_columns);
    }
};

} // namespace softperm
