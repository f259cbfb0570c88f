// Sinkhorn by scalings: for all but the lowest temperatures.
//
// With X = log_alpha / tau and K = exp(X - row maximum) the iterate is S_ij = a_i K_ij b_j. Only the
// scalings change: one pass over K does a row and a column step. Entries of K that underflow cannot be
// noticed as long as the scalings stay small enough; where they do not, the kernel says so. The reverse
// pass needs the scalings of every step, and works on S with scalings relative to the last ones, or,
// where K is float64 and S is not (entries of S may underflow that mattered before), on K itself.
#pragma once

#include "layout.hpp"

namespace softperm {

template <class T, class W, bool LANES> struct Scalings : Layout<T, W, LANES> {
    using Base = Layout<T, W, LANES>;
    using Base::J, Base::N, Base::RN, Base::arena, Base::chunks, Base::count, Base::first, Base::m, Base::n, Base::w;
    using typename Base::V;
    static constexpr bool ON_S = std::is_same_v<T, W>;
    static constexpr double LARGEST = sizeof(W) == 4 ? 1e30 : ON_S ? 1e280 : 1e290; // product of scalings
    static constexpr int GROUP = LANES ? 4 : REGISTERS / 4; // rows that are multiplied at a time
    static constexpr int64_t FIRST_CACHE = 26000;           // bytes of two such groups

    // Row i of K is at K + i stride; but with the matrix in place, unpadded, what does not fill a vector
    // is in `tails`.
    W *K, *tails;
    int64_t stride, whole;
    W *top, *A_rolling, *B_rolling, *A_kept, *B_kept, *acc, *of_rows, *of_columns;
    const int64_t a_size = m * RN, b_size = J * N;

    using Base::Base;

    // Copying rows to where cache lines begin pays for small matrices only.
    bool in_place() const { return !LANES && ON_S && (n % N == 0 || n > 400); }
    void take_common(T* place) {
        arena.reset(0);
        W* matrix = arena.template take<W>(m * (in_place() ? N : b_size));
        K = matrix;
        tails = matrix;
        stride = whole = b_size;
        if (in_place()) {
            K = reinterpret_cast<W*>(this->line(place, 0));
            stride = n;
            whole = n / N * N;
        }
        top = arena.template take<W>(a_size + N);
        of_rows = arena.template take<W>(a_size + N);
        of_columns = arena.template take<W>(b_size);
        acc = arena.template take<W>(chunks * (b_size + N));
        this->read_sums(of_rows, of_columns, false);
        A_kept = static_cast<W*>(ON_S ? w.steps : w.more_steps) + first * w.steps_per_matrix();
        B_kept = A_kept + w.kept * a_size;
    }
    INLINE W* at(int64_t i, int64_t j) const {
        if constexpr (LANES || !ON_S) return K + i * b_size + j;
        else return j < whole ? K + i * stride + j : tails + i * N;
    }
    // Row scalings of step t, and column scalings before it.
    W* A(int64_t t) const { return t < w.kept ? A_kept + t * a_size : A_rolling + (t & 1) * (a_size + N); }
    W* B(int64_t t) const { return w.kept && t <= w.kept ? B_kept + t * b_size : B_rolling + (t & 1) * b_size; }
    W* column_sums(int64_t chunk) const { return acc + chunk * (b_size + N); }

    // What a group of rows contributes with, from its products with y: wanted sum / r on the way
    // forwards, a (du - a r) / wanted sum on the way back.
    struct Forwards {
        const W* wanted;
        INLINE V operator()(V r, int64_t at) const { return load<V>(wanted + at) / maximum(r, splat<V>(TINY<W>)); }
    };
    struct Backwards {
        const W *a, *du, *per_sum;
        INLINE V operator()(V r, int64_t at) const {
            const V scaling = load<V>(a + at);
            return scaling * (load<V>(du + at) - scaling * r) * load<V>(per_sum + at);
        }
    };

    // One pass over rows lo to hi of K: s_i = f(K_i . y), sums = sum_i s_i K_i; returns the sum of s.
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
    // The sum over chunks of what is at position j of their column sums.
    INLINE V over_chunks(int64_t j) const {
        V v = load<V>(acc + j);
        for (int c = 1; c < chunks; ++c) v += load<V>(column_sums(c) + j);
        return v;
    }

    // K, the maxima of its rows, which are 0 for rows of -inf alone, and where scalings are given the
    // first row step, as `sweep` does it, while the row is at hand.
    void exponentials(const T* x, W* a = nullptr, const W* b = nullptr) {
        const V rate = this->rates(sizeof(W) == 4 ? 1e38 : INFINITE);
        if constexpr (LANES) this->read_lanes(x, K);
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            W* sums = column_sums(c);
            V all = {};
            std::fill(sums, sums + b_size, W(0));
            for (int64_t i = lo; i < hi; ++i) {
                V high = splat<V>(-INFINITE), r = {};
                for (int64_t j = 0; j < J; ++j) {
                    W* k = at(i, j * N);
                    if constexpr (!LANES) store(k, this->read(this->line(x, i), j, T(-INFINITE)));
                    high = maximum(high, load<V>(k));
                }
                high = this->most(high);
                high = high == W(-INFINITE) ? V{} : high;
                this->set_row(top, i, high);
                for (int64_t j = 0; j < b_size; j += N) {
                    const V k = exp((load<V>(at(i, j)) - high) * rate);
                    if (b) r += k * load<V>(b + j);
                    store(at(i, j), k);
                }
                if (!a) continue;
                const V scaling = this->row(of_rows, i) / maximum(this->sum(r), splat<V>(TINY<W>));
                this->set_row(a, i, scaling);
                all += scaling;
                for (int64_t j = 0; j < b_size; j += N) store(sums + j, load<V>(sums + j) + scaling * load<V>(at(i, j)));
            }
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

    double error = INFINITE; // the last that was looked at to see whether to stop

    // Does the steps; says how many, and which matrices stayed in the safe range.
    int64_t iterate(IntVec<V>& safe) {
        V most_a = {}, most_b = {};
        safe = this->rates() < W(LARGEST); // beyond, differences between subnormal scores matter
        for (int64_t t = 0; t < w.n_iters; ++t) {
            if (t > 0 || LANES) sweep(B(t), Forwards{of_rows}, A(t));
            if (!LANES && w.tol > 0 && t > 0 && (error = row_error(A(t - 1), A(t))) < w.tol) return t;
            V sum_b = {};
            W* b = B(t + 1);
            for (int64_t j = 0; j < b_size; j += N) {
                const V v = load<V>(of_columns + j) / maximum(over_chunks(j), splat<V>(TINY<W>));
                sum_b += v;
                store(b + j, v);
            }
            most_a = maximum(most_a, over_chunks(b_size));
            most_b = maximum(most_b, this->sum(sum_b));
            safe &= most_a * most_b <= W(LARGEST);
            if ((!LANES || t % 4 == 3) && few(safe)) {
                safe = IntVec<V>{}; // the engine that has to do the others takes these along
                return t + 1;
            }
        }
        return w.n_iters;
    }

    // Writes S of the wanted matrices; the largest row error.
    V write_result(const W* a, const W* b, const bool* wanted, T* out) {
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            V worst = {};
            for (int64_t i = lo; i < hi; ++i) {
                V row_sum = {};
                const V scaling = this->row(a, i);
                for (int64_t j = 0; j < J; ++j) {
                    const V s = scaling * load<V>(at(i, j * N)) * load<V>(b + j * N);
                    row_sum += s;
                    if constexpr (LANES) store(at(i, j * N), s);
                    else if (!w.log) this->write(this->line(out, i), j, s);
                }
                if (w.error) worst = maximum(worst, absolute(this->sum(row_sum) - this->row(of_rows, i)));
            }
            store(column_sums(c), worst);
        });
        if constexpr (LANES)
            if (!w.log) this->write_lanes(K, wanted, out);
        V worst = {};
        for (int c = 0; c < chunks; ++c) worst = maximum(worst, load<V>(column_sums(c)));
        return worst;
    }

    // log S from the scalings alone, exact where S underflows.
    void write_logarithm(const W* a, const W* b, const bool* wanted, const T* x, T* out) const {
        auto log_of = [](W s) { return s > 0 ? std::log(double(s)) : -INFINITE; };
        for (int l = 0; l < RN && l < count; ++l) {
            if (!wanted[l]) continue;
            const double rate = w.rate(first + l);
            std::unique_ptr<double[]> v(new double[n]);
            for (int64_t j = 0; j < n; ++j) v[j] = log_of(b[j * RN + l]);
            auto part = [&](int64_t c) {
                for (int64_t i = this->begin(c); i < this->begin(c + 1); ++i) {
                    const int64_t at = ((first + l) * m + i) * n;
                    const double u = log_of(a[i * RN + l]), high = top[i * RN + l];
                    for (int64_t j = 0; j < n; ++j) out[at + j] = T((double(x[at + j]) - high) * rate + (u + v[j]));
                }
            };
            parallel(chunks, this->threads, part);
        }
    }

    // Results of the wanted matrices that stay safe; the others stay wanted.
    void forward(bool* wanted) {
        const T* x = static_cast<const T*>(w.x);
        T* out = static_cast<T*>(w.out);
        take_common(out);
        A_rolling = arena.template take<W>(2 * (a_size + N));
        B_rolling = arena.template take<W>(2 * b_size);
        for (int64_t j = 0; j < J; ++j) store(B(0) + j * N, load<V>(of_columns + j * N) > 0 ? splat<V>(1) : V{});
        if (LANES) exponentials(x); // where `sweep` is quicker
        else exponentials(x, A(0), B(0));
        IntVec<V> safe;
        const int64_t done = iterate(safe);
        bool good[N];
        for (int l = 0; l < N; ++l) good[l] = l < count && wanted[l] && safe[l];
        if (std::none_of(good, good + count, [](bool is) { return is; })) return;
        const V worst = write_result(A(done - 1), B(done), good, out);
        if (w.log) write_logarithm(A(done - 1), B(done), good, x, out);
        const V reached = error < w.tol ? splat<V>(W(error)) : worst;
        if (w.error) this->write_numbers(reached, good, static_cast<T*>(w.error));
        for (int l = 0; l < count; ++l) {
            if (!good[l]) continue;
            wanted[l] = false;
            if (w.iters) w.iters[first + l] = done;
        }
    }

    // ---- the reverse pass ----

    W *RA, *RB, *P, *Q, *du, *dv, *per_sum, *G;

    // The kept scalings, relative to the last ones where the matrix is S.
    void relative(int64_t steps) {
        RA = ON_S ? arena.template take<W>(steps * a_size + N) : A_kept;
        RB = ON_S ? arena.template take<W>((steps + 1) * b_size) : B_kept;
        if (!ON_S) return;
        auto divide = [](const W* from, const W* last, W* to, int64_t size, int64_t count) {
            W* inverse = to + (count - 1) * size; // the last, to be overwritten by 1 or 0
            for (int64_t k = 0; k < size; ++k) inverse[k] = last[k] > 0 ? 1 / last[k] : 0;
            for (int64_t t = 0; t < count - 1; ++t)
                for (int64_t k = 0; k < size; ++k) to[t * size + k] = from[t * size + k] * inverse[k];
            for (int64_t k = 0; k < size; ++k) inverse[k] = inverse[k] > 0 ? 1 : 0;
        };
        divide(A_kept, A_kept + (steps - 1) * a_size, RA, a_size, steps);
        divide(B_kept, B_kept + steps * b_size, RB, b_size, steps + 1);
    }

    // Vector j of row i of the gradient with respect to the result.
    INLINE V gradient(const T* grad, int64_t i, int64_t j) const {
        if constexpr (LANES) return load<V>(G + i * b_size + j * N);
        else return this->read(this->line(grad, i), j);
    }

    // K becomes the matrix to work on.
    void read_matrix() {
        if constexpr (!ON_S) return exponentials(static_cast<const T*>(w.x));
        const T* out = static_cast<const T*>(w.out);
        if constexpr (LANES) this->read_lanes(out, K);
        const bool kept_in_place = in_place() && !w.log;
        this->rows([&](int64_t lo, int64_t hi, int64_t) {
            for (int64_t i = lo; i < hi; ++i)
                for (int64_t j = kept_in_place ? whole / N : 0; j < J; ++j) {
                    W* k = at(i, j * N);
                    V s = LANES ? load<V>(k) : this->read(this->line(out, i), j, T(w.log ? -INFINITE : 0));
                    if (!LANES || w.log) store(k, w.log ? exp(s) : s);
                }
        });
    }

    // The gradient with respect to log S, summed along rows into du and along columns into dv.
    void start(const T* grad, int64_t steps) {
        const W *a = RA + (steps - 1) * a_size, *b = RB + steps * b_size;
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            W* sums = column_sums(c);
            std::fill(sums, sums + b_size, W(0));
            for (int64_t i = lo; i < hi; ++i) {
                V row_sum = {};
                const V scaling = this->row(a, i);
                for (int64_t j = 0; j < J; ++j) {
                    V g = gradient(grad, i, j);
                    if (!w.log) {
                        g *= load<V>(at(i, j * N));
                        if (!ON_S) g *= scaling * load<V>(b + j * N);
                    }
                    row_sum += g;
                    store(sums + j * N, load<V>(sums + j * N) + g);
                }
                this->set_row(du, i, this->sum(row_sum));
            }
        });
        for (int64_t j = 0; j < b_size; j += N) store(dv + j, over_chunks(j));
    }

    // The gradient by way of the scalings of every step: the column steps' part is
    // -K_ij sum_t A_ti P_tj, the row steps' -K_ij sum_t Q_ti B_tj.
    void reverse(int64_t steps) {
        for (int64_t t = steps - 1; t >= 0; --t) {
            W* p = P + t * b_size;
            for (int64_t j = 0; j < b_size; j += N) {
                const V sums = load<V>(of_columns + j), share = load<V>(dv + j) / sums;
                store(p + j, sums > 0 ? load<V>(RB + (t + 1) * b_size + j) * share : V{});
            }
            sweep(p, Backwards{RA + t * a_size, du, per_sum}, Q + t * a_size);
            if (t == steps - 1) std::fill(du, du + a_size, W(0));
            for (int64_t j = 0; j < b_size; j += N) store(dv + j, -(load<V>(RB + t * b_size + j) * over_chunks(j)));
        }
    }

    // With respect to the logarithms of the wanted sums: every step's gradient of its scalings.
    void write_sums(int64_t steps, const bool* wanted) const {
        for (int l = 0; l < RN && l < count; ++l) {
            if (!wanted[l]) continue;
            double *rows = w.d_rows + (first + l) * m, *columns = w.d_columns + (first + l) * n;
            auto sum_up = [&](double* to, int64_t lines, const W* parts, const W* scalings, int64_t size, const W* sums) {
                for (int64_t k = 0; k < lines; ++k) {
                    double d = 0;
                    for (int64_t t = 0; t < steps; ++t) {
                        const double s = scalings[t * size + k * RN + l];
                        if (s > 0) d += double(parts[t * size + k * RN + l]) / s;
                    }
                    to[k] = d * double(sums[k * RN + l]);
                }
            };
            sum_up(rows, m, Q, RA, a_size, of_rows);
            sum_up(columns, n, P, RB + b_size, b_size, of_columns);
        }
    }

    // Rows i to i + R and C vectors of columns from j of dx; infinity and NaN show in `check`.
    template <int R, int C> INLINE void finish_tile(int64_t i, int64_t j, int64_t steps, const T* grad, V rate, T* dx, V& check) {
        V sums[R][C] = {};
        for (int64_t t = 0; t < steps; ++t) {
            V p[C], b[C];
            for (int c = 0; c < C; ++c) {
                p[c] = load<V>(P + t * b_size + (j + c) * N);
                b[c] = load<V>(RB + t * b_size + (j + c) * N);
            }
            for (int r = 0; r < R; ++r) {
                const V a = this->row(RA + t * a_size, i + r), q = this->row(Q + t * a_size, i + r);
                for (int c = 0; c < C; ++c) sums[r][c] += a * p[c] + q * b[c];
            }
        }
        const W *last_a = RA + (steps - 1) * a_size, *last_b = RB + steps * b_size;
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) {
                W* place = at(i + r, (j + c) * N);
                const V k = load<V>(place), g = gradient(grad, i + r, j + c);
                V d = ON_S ? g : g * this->row(last_a, i + r) * load<V>(last_b + (j + c) * N);
                d = w.log ? g - k * sums[r][c] : k * (d - sums[r][c]);
                d = k == 0 ? (w.log ? g : V{}) : d; // not infinity times 0
                d *= rate;
                check += d * 0;
                if constexpr (LANES) store(place, d);
                else this->write(this->line(dx, i + r), j + c, d);
            }
    }
    template <int R> INLINE void finish_rows(int64_t i, int64_t steps, const T* grad, V rate, T* dx, V& check) {
        constexpr int C = REGISTERS / 8;
        int64_t j = 0;
        for (; j + C <= J; j += C) finish_tile<R, C>(i, j, steps, grad, rate, dx, check);
        for (; j < J; ++j) finish_tile<R, 1>(i, j, steps, grad, rate, dx, check);
    }

    // The gradients of the wanted matrices, which all did so many steps. Where one overflows it stays
    // wanted.
    void backward(bool* wanted, int64_t steps) {
        const T* grad = static_cast<const T*>(w.grad);
        T* dx = static_cast<T*>(w.dx);
        const size_t all_a = steps * a_size + N, all_b = (steps + 1) * b_size;
        // The matrix to work on is the result itself, or where that is its logarithm, built where the
        // gradient will be.
        take_common(w.log ? dx : static_cast<T*>(w.out));
        P = arena.template take<W>(all_b);
        Q = arena.template take<W>(all_a);
        du = arena.template take<W>(a_size + N);
        per_sum = arena.template take<W>(a_size + N);
        dv = arena.template take<W>(b_size);
        G = arena.template take<W>(LANES ? m * b_size : 0);
        relative(steps);
        for (int64_t k = 0; k < a_size; ++k) per_sum[k] = of_rows[k] > 0 ? 1 / of_rows[k] : 0;
        read_matrix();
        if constexpr (LANES) this->read_lanes(grad, G);
        start(grad, steps);
        reverse(steps);
        const V rate = this->rates();
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            constexpr int R = REGISTERS / 8;
            V check = {};
            int64_t i = lo;
            for (; i + R <= hi; i += R) finish_rows<R>(i, steps, grad, rate, dx, check);
            for (; i < hi; ++i) finish_rows<1>(i, steps, grad, rate, dx, check);
            store(column_sums(c), this->sum(check));
        });
        const V check = over_chunks(0);
        bool good[N];
        for (int l = 0; l < N; ++l) good[l] = l < count && wanted[l] && check[l] == 0;
        if constexpr (LANES) this->write_lanes(K, good, dx);
        if (w.d_rows) write_sums(steps, good);
        for (int l = 0; l < count; ++l) wanted[l] = wanted[l] && !good[l];
    }
};

} // namespace softperm
