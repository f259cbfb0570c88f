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
    using Base::N, Base::RN, Base::count, Base::m, Base::w, Base::take, Base::row, Base::set_row, Base::entry;
    using Base::x, Base::grad, Base::a_size, Base::b_size, Base::A, Base::B, Base::over_chunks;
    using typename Base::V;
    using W = double;
    static constexpr double LEAST_SUM = 1e-100; // so that what is divided by it stays finite

    W *const log_rows = this->of_rows, *const log_columns = this->of_columns;
    W *L, *E, *factors; // the exponentials of the last row steps and what they were multiplied by
    W *high, *rest;     // of columns: maxima, and the sums of what is below them

    Logarithms(const Work& work, int64_t first, int parts) : Base(work, first, parts, true) {
        for (W** matrix : {&L, &E}) *matrix = take(m * b_size);
        for (W** columns : {&high, &rest}) *columns = take(b_size);
        factors = take(a_size);
        const V rate = this->rates(INFINITE);
        this->read_lanes(x, L);
        this->each_row([&](int64_t i, W*, V&) {
            this->each_column([&](int64_t j, auto whole) INLINE_LAMBDA {
                store(L + i * b_size + j, entry(x, L, i, j, whole, T(-INFINITE)) * rate);
            });
        });
    }
    // Within 1e-9 where float32 is wanted.
    static INLINE V exponential(V v) { return exp<sizeof(T) == 4 ? 8 : 13>(v); }
    static INLINE V finite(V v) { return v == -INFINITE ? V{} : v; }
    static INLINE V positive(V v) { return v > 0 ? v : splat<V>(1); }

    // One step from v = B(t) to u = A(t), with the exponentials of L + v less the maxima of rows, what
    // makes the sums of rows what is wanted, and the sums of columns then.
    void row_steps(int64_t t) {
        const W* v = B(t);
        this->each_row([&](int64_t i, W* sums, V&) {
            const W* l = L + i * b_size;
            W* e = E + i * b_size;
            V top = splat<V>(-INFINITE), sum = {};
            for (int64_t j = 0; j < b_size; j += N) top = maximum(top, load<V>(l + j) + load<V>(v + j));
            top = finite(this->most(top));
            for (int64_t j = 0; j < b_size; j += N) {
                const V p = exponential(load<V>(l + j) + load<V>(v + j) - top);
                store(e + j, p);
                sum += p;
            }
            sum = positive(this->sum(sum));
            const V log_r = row(log_rows, i), factor = exp(log_r) / sum;
            set_row(factors, i, factor);
            set_row(A(t), i, log_r - (top + log(sum)));
            for (int64_t j = 0; j < b_size; j += N) store(sums + j, load<V>(sums + j) + load<V>(e + j) * factor);
        });
    }
    // From scratch, columns j to end: maxima of L + u and the sums of exponentials of what is below.
    void column_softmax(const W* u, int64_t j, int64_t end) const {
        auto all = [&](W* to, V start, auto add) INLINE_LAMBDA {
            for (int64_t k = j; k < end; k += N) store(to + k, start);
            for (int64_t i = 0; i < m; ++i)
                for (int64_t k = j; k < end; k += N)
                    store(to + k, add(load<V>(to + k), load<V>(L + i * b_size + k) + row(u, i), k));
        };
        all(high, splat<V>(-INFINITE), [](V most, V y, int64_t) INLINE_LAMBDA { return maximum(most, y); });
        for (int64_t k = j; k < end; k += N) store(high + k, finite(load<V>(high + k)));
        all(rest, V{}, [&](V sum, V y, int64_t k) INLINE_LAMBDA { return sum + exponential(y - load<V>(high + k)); });
        for (int64_t k = j; k < end; k += N) store(rest + k, positive(load<V>(rest + k)));
    }
    void column_steps(int64_t t) {
        for (int64_t j = 0; j < b_size; j += N) {
            const V sum = over_chunks(j), log_c = load<V>(log_columns + j);
            const V apart = sum > LEAST_SUM || log_c == -INFINITE ? V{} : splat<V>(1);
            V next = load<V>(B(t) + j) + log_c - log(sum > LEAST_SUM ? sum : splat<V>(1));
            if (total(apart) > 0) {
                column_softmax(A(t), j, j + N);
                next = apart > 0 ? log_c - (load<V>(high + j) + log(load<V>(rest + j))) : next;
            }
            store(B(t + 1) + j, next);
        }
    }
    double row_error(const W* u, const W* next) const {
        double worst = 0;
        for (int64_t i = 0; i < m; ++i)
            if (log_rows[i] > -INFINITE) worst = std::max(worst, std::abs(std::expm1(u[i] - next[i])) * std::exp(log_rows[i]));
        return worst;
    }
    // Does the steps, then the last column step from scratch; says how many.
    int64_t iterate(int64_t n_iters, double tol) {
        for (int64_t j = 0; j < b_size; j += N) {
            const V log_c = load<V>(log_columns + j);
            store(B(0) + j, log_c == -INFINITE ? log_c : V{});
        }
        int64_t t = 0;
        for (; t < n_iters; ++t) {
            row_steps(t);
            if (!LANES && tol > 0 && t > 0 && (this->error = row_error(A(t - 1), A(t))) < tol) break;
            column_steps(t);
        }
        column_softmax(A(t - 1), 0, b_size);
        return t;
    }
    // The logarithm of S less that of its column's wanted sum and that of `rest`.
    INLINE V exponent(const W* u, int64_t i, int64_t j) const {
        return load<V>(L + i * b_size + j) + row(u, i) - load<V>(high + j);
    }
    INLINE V result(V y, int64_t j) const { return exp(y) / load<V>(rest + j) * exp(load<V>(log_columns + j)); }

    // Results of the wanted matrices.
    void forward(bool* wanted) {
        this->take_steps(2);
        const int64_t done = iterate(w.n_iters, w.tol);
        V worst = {};
        for (int64_t i = 0; i < m; ++i) {
            V row_sum = {};
            this->each_column([&](int64_t j, auto whole) INLINE_LAMBDA {
                const V y = exponent(A(done - 1), i, j), s = result(y, j);
                row_sum += s;
                this->put(this->out, L, i, j, whole, w.log ? load<V>(log_columns + j) + (y - log(load<V>(rest + j))) : s);
            });
            worst = maximum(worst, absolute(this->sum(row_sum) - exp(row(log_rows, i))));
        }
        this->write_lanes(L, wanted, this->out);
        this->note(wanted, wanted, worst, done);
    }

    // ---- the reverse pass ----

    W *G, *du, *dv, *d_rows, *d_columns, *shares;

    // Takes the column step from G and du, for columns j and following that are done from scratch.
    void column_back(int64_t j, const W* u, V apart) {
        column_softmax(u, j, j + N);
        const V share = apart / load<V>(rest + j);
        for (int64_t i = 0; i < m; ++i) {
            W* g = G + i * b_size + j;
            const V part = exponential(exponent(u, i, j)) * share;
            store(g, load<V>(g) - part);
            set_row(du, i, row(du, i) - this->sum(part));
        }
    }
    // Takes step t from G, and turns du and dv into the gradients of the scalings before it.
    void step_back(int64_t t) {
        row_steps(t);
        for (int64_t j = 0; j < b_size; j += N) {
            const V sum = over_chunks(j), d = load<V>(dv + j);
            const V apart = sum > LEAST_SUM ? V{} : d;
            store(d_columns + j, load<V>(d_columns + j) + d);
            store(dv + j, V{});
            store(shares + j, (d - apart) / positive(sum));
            if (total(absolute(apart)) > 0) column_back(j, A(t), apart);
        }
        for (int64_t i = 0; i < m; ++i) {
            W *g = G + i * b_size, *e = E + i * b_size;
            const V factor = row(factors, i);
            V product = {}, all = {};
            for (int64_t j = 0; j < b_size; j += N) {
                const V p = load<V>(e + j), part = p * factor * load<V>(shares + j);
                all += p;
                product += part;
                store(g + j, load<V>(g + j) - part);
            }
            const V d = row(du, i) - this->sum(product), share = d / positive(this->sum(all));
            set_row(du, i, V{});
            set_row(d_rows, i, row(d_rows, i) + d);
            for (int64_t j = 0; j < b_size; j += N) {
                const V part = load<V>(e + j) * share;
                store(g + j, load<V>(g + j) - part);
                store(dv + j, load<V>(dv + j) - part);
            }
        }
    }
    // G = d / d log S, its row sums in du and its column sums in dv.
    void start(const W* u) {
        this->read_lanes(grad, G);
        for (int64_t i = 0; i < m; ++i) {
            V row_sum = {};
            this->each_column([&](int64_t j, auto whole) INLINE_LAMBDA {
                V g = entry(grad, G, i, j, whole);
                if (!w.log) g *= result(exponent(u, i, j), j);
                store(G + i * b_size + j, g);
                row_sum += g;
                store(dv + j, load<V>(dv + j) + g);
            });
            set_row(du, i, this->sum(row_sum));
        }
    }
    void backward(bool* wanted) {
        const int64_t steps = w.iters ? w.iters[this->first] : w.n_iters;
        this->take_steps(steps);
        G = take(m * b_size);
        for (W** rows : {&du, &d_rows}) *rows = take(a_size);
        for (W** columns : {&dv, &d_columns, &shares}) *columns = take(b_size);
        std::fill(d_rows, d_rows + a_size, 0.0);
        for (W* zeros : {dv, d_columns}) std::fill(zeros, zeros + b_size, 0.0);
        iterate(steps, 0.0);
        start(A(steps - 1));
        for (int64_t t = steps - 1; t >= 0; --t) step_back(t);
        const V rate = this->rates();
        for (int64_t i = 0; i < m; ++i)
            this->each_column([&](int64_t j, auto whole) INLINE_LAMBDA {
                this->put(this->dx, G, i, j, whole, load<V>(G + i * b_size + j) * rate);
            });
        this->write_lanes(G, wanted, this->dx);
        this->note_gradients(wanted, wanted, d_rows, d_columns);
    }
};

} // namespace softperm
