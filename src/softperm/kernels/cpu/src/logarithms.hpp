// Sinkhorn in the log domain: right at any temperature, for the few matrices that need it.
//
// Everything is float64, and nothing is kept for the reverse pass, which does the steps again, forwards
// and then backwards. One exponential per entry and step is enough: with e = exp(L + v - row maximum),
// whose rows sum to s, the column step is v <- v + log c - log sum_i e_ij r_i / s_i. Columns in which
// that sum underflows are done from scratch. Where L is huge, u and v have no digits left for the
// logarithm of a sum: results and gradients are therefore taken from exponentials divided by their sums.
#pragma once

#include "layout.hpp"

namespace softperm {

template <class T, bool LANES> struct Logarithms : Layout<T, double, LANES> {
    using Base = Layout<T, double, LANES>;
    using Base::J, Base::N, Base::RN, Base::arena, Base::chunks, Base::count, Base::first, Base::m, Base::n, Base::w;
    using typename Base::V;
    using W = double;
    static constexpr double LEAST_SUM = 1e-100; // so that what is divided by it stays finite

    W *L, *log_rows, *log_columns, *acc, *us, *vs; // us and vs: of all steps, or of the last two
    W *E = nullptr, *factors; // the exponentials of the last row steps and what they were multiplied by
    int64_t kept;
    const int64_t a_size = m * RN, b_size = J * N;

    using Base::Base;

    void take(int64_t steps) {
        arena.reset(0);
        kept = steps;
        L = arena.template take<W>(m * b_size);
        acc = arena.template take<W>(chunks * 2 * b_size);
        log_rows = arena.template take<W>(a_size + N);
        log_columns = arena.template take<W>(b_size);
        us = arena.template take<W>((steps + 2) * a_size);
        vs = arena.template take<W>((steps + 3) * b_size);
        this->read_sums(log_rows, log_columns, true);
        const T* x = static_cast<const T*>(w.x);
        const V rate = this->rates(INFINITE);
        if constexpr (LANES) this->read_lanes(x, L);
        this->rows([&](int64_t lo, int64_t hi, int64_t) {
            for (int64_t i = lo; i < hi; ++i)
                for (int64_t j = 0; j < J; ++j) {
                    W* l = L + i * b_size + j * N;
                    if constexpr (LANES) store(l, load<V>(l) * rate);
                    else store(l, this->read(this->line(x, i), j, T(-INFINITE)) * rate);
                }
        });
    }
    W* u(int64_t t) const { return us + (t < kept ? t : kept + (t & 1)) * a_size; }
    W* v(int64_t t) const { return vs + (t <= kept ? t : kept + 1 + (t & 1)) * b_size; }
    W* sums(int64_t chunk) const { return acc + chunk * 2 * b_size; } // of a chunk; twice as many columns
    INLINE V at(int64_t i, int64_t j) const { return load<V>(L + i * b_size + j * N); }
    INLINE V over_chunks(int64_t j) const {
        V all = load<V>(acc + j);
        for (int c = 1; c < chunks; ++c) all += load<V>(sums(c) + j);
        return all;
    }
    // Within 1e-9 where float32 is wanted.
    static INLINE V exponential(V v) { return exp<sizeof(T) == 4 ? 8 : 13>(v); }
    static INLINE V finite(V v) { return v == -INFINITE ? V{} : v; }
    static INLINE V positive(V v) { return v > 0 ? v : splat<V>(1); }

    // The exponentials of row i of L + v into e, less the row's maximum; the row's scaling, which is
    // log r less the logarithm of their sum and that maximum, and what makes their sum r.
    INLINE V row_step(int64_t i, const W* v, W* e, V& factor) const {
        V high = splat<V>(-INFINITE), sum = {};
        for (int64_t j = 0; j < J; ++j) {
            const V y = at(i, j) + load<V>(v + j * N);
            store(e + j * N, y);
            high = maximum(high, y);
        }
        high = finite(this->most(high));
        for (int64_t j = 0; j < J; ++j) {
            const V p = exponential(load<V>(e + j * N) - high);
            store(e + j * N, p);
            sum += p;
        }
        sum = positive(this->sum(sum));
        const V log_r = this->row(log_rows, i);
        factor = exp(log_r) / sum;
        return log_r - (high + log(sum));
    }

    // Maxima of the columns j to end of L + u, and the sums of the exponentials of what is below them.
    void column_softmax(const W* u, int64_t j, int64_t end, W* high, W* sum) const {
        for (int64_t k = j; k < end; ++k) store(high + k * N, splat<V>(-INFINITE));
        for (int64_t i = 0; i < m; ++i)
            for (int64_t k = j; k < end; ++k)
                store(high + k * N, maximum(load<V>(high + k * N), at(i, k) + this->row(u, i)));
        for (int64_t k = j; k < end; ++k) store(high + k * N, finite(load<V>(high + k * N))), store(sum + k * N, V{});
        for (int64_t i = 0; i < m; ++i)
            for (int64_t k = j; k < end; ++k)
                store(sum + k * N, load<V>(sum + k * N) + exponential(at(i, k) + this->row(u, i) - load<V>(high + k * N)));
        for (int64_t k = j; k < end; ++k) store(sum + k * N, positive(load<V>(sum + k * N)));
    }

    // One step from v(t) to u(t) and v(t + 1).
    void row_steps(int64_t t) {
        this->rows([&](int64_t lo, int64_t hi, int64_t c) {
            W *all = sums(c), *e = all + b_size;
            std::fill(all, e, 0.0);
            for (int64_t i = lo; i < hi; ++i) {
                V factor;
                if (E) e = E + i * b_size;
                this->set_row(u(t), i, row_step(i, v(t), e, factor));
                if (E) this->set_row(factors, i, factor);
                for (int64_t j = 0; j < b_size; j += N) store(all + j, load<V>(all + j) + load<V>(e + j) * factor);
            }
        });
    }
    void column_steps(int64_t t) {
        for (int64_t j = 0; j < J; ++j) {
            const V sum = over_chunks(j * N), log_c = load<V>(log_columns + j * N);
            const V apart = sum > LEAST_SUM || log_c == -INFINITE ? V{} : splat<V>(1);
            V next = load<V>(v(t) + j * N) + log_c - log(sum > LEAST_SUM ? sum : splat<V>(1));
            if (total(apart) > 0) {
                W *high = sums(0) + b_size, *rest = v(t + 1);
                column_softmax(u(t), j, j + 1, high, rest);
                const V scratch = log_c - (load<V>(high + j * N) + log(load<V>(rest + j * N)));
                next = apart > 0 ? scratch : next;
            }
            store(v(t + 1) + j * N, next);
        }
    }
    double row_error(const W* u, const W* next) const {
        double worst = 0;
        for (int64_t i = 0; i < m; ++i)
            if (log_rows[i] > -INFINITE) worst = std::max(worst, std::abs(std::expm1(u[i] - next[i])) * std::exp(log_rows[i]));
        return worst;
    }
    double error = INFINITE; // the last that was looked at to see whether to stop

    int64_t iterate(int64_t n_iters, double tol) {
        for (int64_t j = 0; j < b_size; j += N) {
            const V log_c = load<V>(log_columns + j);
            store(v(0) + j, log_c == -INFINITE ? log_c : V{});
        }
        for (int64_t t = 0; t < n_iters; ++t) {
            row_steps(t);
            if (!LANES && tol > 0 && t > 0 && (error = row_error(u(t - 1), u(t))) < tol) return t;
            column_steps(t);
        }
        return n_iters;
    }

    // Results of the wanted matrices.
    void forward(bool* wanted) {
        T* out = static_cast<T*>(w.out);
        take(0);
        W *high = arena.template take<W>(2 * b_size), *sum = high + b_size;
        const int64_t done = iterate(w.n_iters, w.tol);
        const W* last = u(done - 1);
        column_softmax(last, 0, J, high, sum);
        V worst = {};
        for (int64_t i = 0; i < m; ++i) {
            V row_sum = {};
            for (int64_t j = 0; j < J; ++j) {
                const V log_c = load<V>(log_columns + j * N), y = at(i, j) + this->row(last, i) - load<V>(high + j * N);
                V s = exp(y) / load<V>(sum + j * N) * exp(log_c);
                row_sum += s;
                if (w.log) s = log_c + (y - log(load<V>(sum + j * N)));
                if constexpr (LANES) store(L + i * b_size + j * N, s);
                else this->write(this->line(out, i), j, s);
            }
            worst = maximum(worst, absolute(this->sum(row_sum) - exp(this->row(log_rows, i))));
        }
        if constexpr (LANES) this->write_lanes(L, wanted, out);
        const V reached = error < w.tol ? splat<V>(error) : worst;
        if (w.error) this->write_numbers(reached, wanted, static_cast<T*>(w.error));
        for (int l = 0; l < count; ++l) {
            if (wanted[l] && w.iters) w.iters[first + l] = done;
            wanted[l] = false;
        }
    }

    // ---- the reverse pass ----

    W *G, *du, *dv, *d_rows, *d_columns;

    // Takes the column step from G and du, for columns of vector j that are done from scratch.
    void column_back(int64_t j, const W* u, V shares, const W* high) {
        for (int64_t i = 0; i < m; ++i) {
            W* g = G + i * b_size + j * N;
            const V part = exponential(at(i, j) + this->row(u, i) - load<V>(high)) * shares;
            store(g, load<V>(g) - part);
            this->set_row(du, i, this->row(du, i) - this->sum(part));
        }
    }
    // Takes step t from G, and turns du and dv into the gradients of the scalings before it.
    void step_back(int64_t t, W* shares) {
        row_steps(t);
        for (int64_t j = 0; j < J; ++j) {
            const V sum = over_chunks(j * N), d = load<V>(dv + j * N);
            const V apart = sum > LEAST_SUM || d == 0 ? V{} : splat<V>(1);
            store(d_columns + j * N, load<V>(d_columns + j * N) + d);
            store(dv + j * N, V{});
            store(shares + j * N, apart > 0 ? V{} : d / positive(sum));
            if (total(apart) == 0) continue;
            W *high = shares + b_size, *rest = high + b_size;
            column_softmax(u(t), j, j + 1, high, rest);
            column_back(j, u(t), apart * d / load<V>(rest + j * N), high + j * N);
        }
        for (int64_t i = 0; i < m; ++i) {
            W *g = G + i * b_size, *e = E + i * b_size;
            const V factor = this->row(factors, i);
            V product = {}, all = {};
            for (int64_t j = 0; j < b_size; j += N) {
                const V p = load<V>(e + j), part = p * factor * load<V>(shares + j);
                all += p;
                product += part;
                store(g + j, load<V>(g + j) - part);
            }
            const V d = this->row(du, i) - this->sum(product), share = d / positive(this->sum(all));
            this->set_row(du, i, V{});
            this->set_row(d_rows, i, this->row(d_rows, i) + d);
            for (int64_t j = 0; j < b_size; j += N) {
                const V part = load<V>(e + j) * share;
                store(g + j, load<V>(g + j) - part);
                store(dv + j, load<V>(dv + j) - part);
            }
        }
    }
    // G = d / d log S, its row sums in du and its column sums in dv.
    void start(const T* grad, int64_t steps, W* high) {
        W* sum = high + b_size;
        const W* last = u(steps - 1);
        column_softmax(last, 0, J, high, sum);
        if constexpr (LANES) this->read_lanes(grad, G);
        for (int64_t i = 0; i < m; ++i) {
            V row_sum = {};
            for (int64_t j = 0; j < J; ++j) {
                W* place = G + i * b_size + j * N;
                V g = LANES ? load<V>(place) : this->read(this->line(grad, i), j);
                if (!w.log) {
                    const V s = exp(at(i, j) + this->row(last, i) - load<V>(high + j * N)) / load<V>(sum + j * N);
                    g *= s * exp(load<V>(log_columns + j * N));
                }
                store(place, g);
                row_sum += g;
                store(dv + j * N, load<V>(dv + j * N) + g);
            }
            this->set_row(du, i, this->sum(row_sum));
        }
    }
    void backward(bool* wanted, int64_t steps) {
        T* dx = static_cast<T*>(w.dx);
        take(steps);
        W* all_e = arena.template take<W>(m * b_size);
        factors = arena.template take<W>(a_size + N);
        G = arena.template take<W>(m * b_size);
        du = arena.template take<W>(a_size + N);
        d_rows = arena.template take<W>(a_size + N);
        dv = arena.template take<W>(b_size);
        d_columns = arena.template take<W>(b_size);
        W* free = arena.template take<W>(3 * b_size);
        std::fill(d_rows, d_rows + a_size, 0.0);
        for (W* zeros : {dv, d_columns}) std::fill(zeros, zeros + b_size, 0.0);
        iterate(steps, 0.0);
        start(static_cast<const T*>(w.grad), steps, free);
        E = all_e;
        for (int64_t t = steps - 1; t >= 0; --t) step_back(t, free);
        const V rate = this->rates();
        for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < J; ++j) {
                const V d = load<V>(G + i * b_size + j * N) * rate;
                if constexpr (LANES) store(G + i * b_size + j * N, d);
                else this->write(this->line(dx, i), j, d);
            }
        if constexpr (LANES) this->write_lanes(G, wanted, dx);
        for (int l = 0; l < count && w.d_rows; ++l) {
            if (!wanted[l]) continue;
            wanted[l] = false;
            for (int64_t i = 0; i < m; ++i) w.d_rows[(first + l) * m + i] = d_rows[i * RN + l];
            for (int64_t j = 0; j < n; ++j) w.d_columns[(first + l) * n + j] = d_columns[j * RN + l];
        }
    }
};

} // namespace softperm
