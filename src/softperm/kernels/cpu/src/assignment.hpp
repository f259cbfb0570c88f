// Linear assignment: shortest augmenting paths, exact.
//
// Every column has a price, and column j is worth x_ij - p_j to row i. At the end every row has a
// column that is worth most to it, which proves the assignment optimal. Jonker and Volgenant (1987):
// prices start at the columns' maxima; rows bid for columns, as in an auction; the few rows that are
// then left without one get theirs by exchanges along shortest paths.
//
// Columns that stay without a row must be the cheapest: where there may be any, prices start at zero.
//
// Large matrices: a row keeps a list of columns, and a bound on what any other is worth to it. Prices
// only rise, so the bound holds, and while the best of the list are above it no other is looked at.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "arena.hpp"
#include "matrix.hpp"
#include "shortlist.hpp"
#include "simd.hpp"

namespace softperm {

template <class T> class Assignment {
    using V = Native<T>;
    using W = IntVec<V>;
    using D = Native<double>;
    using I = IntVec<D>;
    static constexpr int LT = LANES_OF<T>, L = LANES_OF<double>;
    static constexpr int64_t NOTHING = -1;
    static constexpr double INFINITE = std::numeric_limits<double>::infinity();

    Arena& arena;
    const int64_t m, n, width; // width: n in whole vectors, filled up with -inf: of every row of x
    const bool listed;
    const double* alone;
    const T* const x;
    int64_t *perm, *owner, *now, *later, *before, *settled;
    double *price, *shut, *distance, *lengths; // shut: the price, infinite where the path is settled
    T* low_price;                              // rounded down
    Shortlist<T>* lists = nullptr;
    double *unlisted, nearest_unlisted; // distances of the columns that are not on a row's list
    int64_t augmentation = 1, failures = 0, looks = 0;

    static Offer least(const double* from, int64_t count) {
        const Offer offer = best_of<D, 4>(count, [&](int64_t at) { return -load<D>(from + at); });
        return {-offer.top, -offer.next, offer.column};
    }
    // A column without a row for which the test is true, or -1.
    template <class F> INLINE int64_t find_vacant(F test) const {
        I found = I{} - 1;
        for (int64_t at = 0; at < n; at += L)
            found = (test(at) & (load<I>(owner + at) < 0)) ? lanes<I>() + at : found;
        return largest(found);
    }

    INLINE D worths(int64_t i, int64_t at, const double* prices) const {
        return convert<double>(load<Vec<T, L>>(x + i * width + at)) - load<D>(prices + at);
    }
    void list(int64_t i) { lists[i].make(x + i * width, low_price, width, augmentation); }
    Offer best_of_columns(int64_t i) {
        for (int attempt = 0; listed && attempt < 2; ++attempt) {
            if (attempt || !lists[i].made) list(i);
            const Offer offer = lists[i].best(price);
            if (offer.next >= lists[i].bound) return offer;
        }
        return best_of<D>(n, [&](int64_t at) { return worths(i, at, price); });
    }
    // The same, or to stay without a column.
    Offer or_alone(int64_t i, Offer offer) const {
        if (!alone || alone[i] == -INFINITE) return offer;
        if (alone[i] >= offer.top) return {alone[i], offer.top, NOTHING};
        return {offer.top, std::max(offer.next, alone[i]), offer.column};
    }

    void raise(int64_t j, double amount) {
        price[j] += amount;
        if (sizeof(T) == 8 || !listed) return;
        const T near = std::min(T(price[j]), HIGHEST<T>);
        low_price[j] = near - (std::abs(near) * T(0x1p-23) + std::numeric_limits<T>::min());
    }
    // Give column j to row i; the row that had it, or -1.
    int64_t give(int64_t i, int64_t j) {
        perm[i] = j;
        if (j == NOTHING) return -1;
        std::swap(owner[j], i);
        return i;
    }

    // Prices at the columns' maxima, and rows with one of the columns whose maximum they hold. The
    // number of rows left, in `now`; -1 if a column is forbidden altogether.
    int64_t start_at_maxima() {
        W* rows = arena.take<W>(width / LT);
        std::fill_n(low_price, n, FORBIDDEN<T>);
        for (int64_t i = 0; i < m; ++i)
            for (int64_t at = 0; at < width; at += LT) {
                const V value = load<V>(x + i * width + at), top = load<V>(low_price + at);
                rows[at / LT] = value > top ? W{} + Element<W>(i) : rows[at / LT];
                store(low_price + at, maximum(value, top));
            }
        int64_t* held = later;
        std::fill_n(held, m, 0);
        for (int64_t j = 0; j < n; ++j) {
            if (low_price[j] == FORBIDDEN<T>) return -1;
            price[j] = low_price[j];
            const int64_t i = rows[j / LT][j % LT];
            if (!held[i]++) give(i, j);
        }
        int64_t left = 0;
        for (int64_t i = 0; i < m; ++i)
            if (!held[i]) now[left++] = i;
        for (int64_t i = 0; i < m && left; ++i) {
            if (held[i] != 1) continue;
            // Worth nothing at the maximum; its price may rise until the next best is worth as much.
            const Offer offer = best_of_columns(i);
            if (offer.column == perm[i] && offer.next > -INFINITE) raise(offer.column, offer.top - offer.next);
        }
        return left;
    }
    // Prices at zero, and rows with the column that is worth most then, where it is free.
    int64_t start_at_zero() {
        int64_t left = 0;
        for (int64_t i = 0; i < m; ++i) {
            const T* row = x + i * width;
            const Offer offer = or_alone(i, best_of<V>(n, [&](int64_t at) { return load<V>(row + at); }));
            const bool free = offer.column == NOTHING || owner[offer.column] < 0;
            if (offer.next > -INFINITE && free) bid_for(i, offer);
            else now[left++] = i;
        }
        return left;
    }
    int64_t bid_for(int64_t i, const Offer& offer) {
        if (offer.column != NOTHING) raise(offer.column, offer.top - offer.next);
        return give(i, offer.column);
    }
    // Bids by the `left` rows in list `now`; the number of rows left free, in list `later`.
    int64_t bid(int64_t left) {
        int64_t bids = (listed ? 8 : 1) * m, kept = 0;
        for (int64_t k = 0; k < left;) {
            const int64_t i = now[k++];
            Offer offer{0, -INFINITE, 0};
            if (bids-- > 0) offer = or_alone(i, best_of_columns(i));
            int64_t loser = i;
            if (offer.column == NOTHING || (offer.next > -INFINITE && offer.top > offer.next)) {
                loser = bid_for(i, offer);
                if (loser >= 0) now[--k] = loser;
            } else if (offer.next > -INFINITE) { // nothing to bid: the next best is worth as much
                const int64_t j = find_vacant([&](int64_t at) { return worths(i, at, price) >= offer.top; });
                if (j >= 0) loser = give(i, j);
            }
            if (loser == i) later[kept++] = i;
        }
        return kept;
    }

    // Shorten paths by way of row i; the nearest column with an open path.
    Offer relax(int64_t i, double offset) {
        const Offer offer = best_of<D>(n, [&](int64_t at) {
            const D by_row = offset - worths(i, at, shut), known = load<D>(distance + at);
            store(before + at, by_row < known ? I{} + i : load<I>(before + at));
            store(distance + at, minimum(by_row, known));
            return -minimum(by_row, known);
        });
        return {-offer.top, 0, offer.column};
    }
    Offer relax_listed(int64_t i, double offset) {
        Shortlist<T>& l = lists[i];
        if (!l.made) list(i);
        Offer near{INFINITE, 0, 0};
        for (const auto* e = l.entries; e < l.entries + l.count; ++e) {
            const double length = offset - (double(e->x) - shut[e->column]);
            if (length >= distance[e->column]) continue;
            distance[e->column] = length;
            before[e->column] = i;
            if (length < near.top || (length == near.top && owner[e->column] < 0)) near = {length, 0, e->column};
        }
        l.distance = offset;
        unlisted[i] = offset - l.bound;
        nearest_unlisted = std::min(nearest_unlisted, unlisted[i]);
        return near;
    }
    // The nearest column, no nearer than `level`. Others than those listed are looked at only where
    // one may be the nearest, and all of them as soon as that happens too often.
    Offer relax_lists(int64_t i, double offset, double level, int64_t rows) {
        Offer near = relax_listed(i, offset);
        if (near.top > level) near = least(distance, n);
        while (nearest_unlisted < near.top) {
            const int64_t row = least(unlisted, m).column;
            if (++looks > 64 + rows / 2) {
                ++failures;
                for (int64_t r = 0; r < m; ++r)
                    if (unlisted[r] < INFINITE) relax(r, lists[r].distance);
                return least(distance, n);
            }
            unlisted[row] = INFINITE;
            if (lists[row].made < augmentation) list(row), relax_listed(row, lists[row].distance);
            else relax(row, lists[row].distance);
            near = least(distance, n);
            nearest_unlisted = least(unlisted, m).top;
        }
        return near;
    }

    // Assign row `first` along a shortest path of exchanges; false if there is none.
    bool augment(int64_t first) {
        std::copy_n(price, width, shut);
        std::fill_n(distance, width, INFINITE);
        if (listed) std::fill_n(unlisted, whole<T>(m), INFINITE);
        nearest_unlisted = INFINITE;
        looks = 0;
        const int64_t failed = failures < 3 ? failures : -1;
        int64_t count = 0, stalls = 0, i = first, j = NOTHING, lonely = NOTHING;
        double offset = 0, length = -INFINITE, nearest_alone = INFINITE;
        for (;;) {
            if (alone && offset - alone[i] < nearest_alone) nearest_alone = offset - alone[i], lonely = i;
            const bool by_lists = listed && failures == failed;
            const Offer near = by_lists ? relax_lists(i, offset, length, count) : relax(i, offset);
            const bool stalled = near.top <= length;
            length = std::min(nearest_alone, near.top);
            if (length == INFINITE) return false;
            j = nearest_alone <= near.top ? NOTHING : near.column;
            if (j != NOTHING && owner[j] >= 0 && stalled && stalls++ % 8 == 0) {
                const int64_t vacant = find_vacant([&](int64_t at) { return load<D>(distance + at) <= length; });
                if (vacant != NOTHING) j = vacant;
            }
            if (j == NOTHING || owner[j] == NOTHING) break;
            settled[count] = j;
            lengths[count++] = length;
            i = owner[j];
            offset = length + (x[i * width + j] - price[j]);
            shut[j] = distance[j] = INFINITE;
        }
        for (int64_t k = 0; k < count; ++k) raise(settled[k], length - lengths[k]);
        ++augmentation;
        i = j == NOTHING ? lonely : before[j];
        for (;; i = before[j]) {
            if (j != NOTHING) owner[j] = i;
            std::swap(j, perm[i]);
            if (i == first) return true;
        }
    }

public:
    // The assignment of m rows to n columns, whose scores have -inf up to whole vectors of columns.
    Assignment(const T* x, int64_t m, int64_t n, bool listed, const double* alone, Arena& arena)
        : arena(arena), m(m), n(n), width(whole<T>(n)), listed(listed), alone(alone), x(x) {
        for (int64_t** rows : {&perm, &now, &later}) *rows = arena.take<int64_t>(m);
        for (int64_t** columns : {&owner, &before, &settled}) *columns = arena.take<int64_t>(width);
        for (double** columns : {&price, &shut, &distance, &lengths}) *columns = arena.take<double>(width);
        std::fill_n(perm, m, NOTHING);
        std::fill_n(owner, width, NOTHING);
        std::fill_n(price, width, 0.0);
        if constexpr (sizeof(T) == 8) low_price = price;
        else std::fill_n(low_price = arena.take<T>(width), width, T(0));
        if (!listed) return;
        lists = arena.take<Shortlist<T>>(m);
        unlisted = arena.take<double>(whole<T>(m));
        for (int64_t i = 0; i < m; ++i) lists[i].made = 0;
    }

    // The column of every row, or null where -inf forbids that all rows have one.
    const int64_t* solve() {
        int64_t left = m == n && !alone ? start_at_maxima() : start_at_zero();
        if (left < 0) return nullptr;
        left = bid(left);
        for (int64_t k = 0; k < left; ++k)
            if (!augment(later[k])) return nullptr;
        return perm;
    }
};

// Four rows: six ways to share the columns between the first two and the last two.
template <class T> bool assign_four(const Matrix& a) {
    static constexpr int PAIRS[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}}; // k and 5 - k are disjoint
    double x[4][4], highest = FORBIDDEN<double>, scale = 1;
    bool valid = true;
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
            x[i][j] = static_cast<const T*>(a.x)[i * a.stride + j];
            valid &= x[i][j] < -FORBIDDEN<double>;
            if (std::abs(x[i][j]) > 0x1p960) scale = 0.25; // so that sums are finite
        }
    for (int k = 0; k < 16; ++k) x[k / 4][k % 4] *= scale;
    for (int k = 0; k < 6; ++k) {
        const int *p = PAIRS[k], *q = PAIRS[5 - k];
        const double first = x[0][p[0]] + x[1][p[1]], first_crossed = x[0][p[1]] + x[1][p[0]];
        const double last = x[2][q[0]] + x[3][q[1]], last_crossed = x[2][q[1]] + x[3][q[0]];
        const double sum = std::max(first, first_crossed) + std::max(last, last_crossed);
        if (sum <= highest) continue;
        highest = sum;
        const bool c = first_crossed > first, d = last_crossed > last;
        const int perm[] = {p[c], p[!c], q[d], q[!d]};
        std::copy_n(perm, 4, a.perm);
    }
    return valid && highest > FORBIDDEN<double>;
}

// Write the assignment of maximal sum; false where a score is NaN or +inf, or -inf forbids as many
// pairs as there must be. Rows keep lists where both sides are longer than `lists_above`; wide vectors
// read whole rows as quickly up to a larger size.
constexpr int64_t LISTS_ABOVE = VECTOR_BYTES > 32 ? 440 : 200;
template <class T> bool assign(const Matrix& a, int64_t lists_above, Arena& arena) {
    if (a.m == 4 && a.n == 4 && !a.unmatched) return assign_four<T>(a);
    arena.reset();
    const bool turned = a.m > a.n && !a.unmatched, listed = std::min(a.m, a.n) > lists_above;
    const int64_t m = turned ? a.n : a.m, n = turned ? a.m : a.n;
    T scale;
    const T* x = in_vectors<T>(a, turned, whole<T>(n), scale, arena);
    if (scale == 0) return false;
    double* alone = a.unmatched ? arena.take<double>(m) : nullptr;
    for (int64_t i = 0; alone && i < m; ++i) {
        alone[i] = double(static_cast<const T*>(a.unmatched)[i]) * scale;
        if (!(alone[i] < -FORBIDDEN<double>)) return false;
    }
    const int64_t* perm = Assignment<T>(x, m, n, listed, alone, arena).solve();
    if (perm && !turned) std::copy_n(perm, m, a.perm);
    if (perm && turned) {
        std::fill_n(a.perm, n, -1);
        for (int64_t j = 0; j < m; ++j) a.perm[perm[j]] = j;
    }
    arena.reset();
    return perm;
}

} // namespace softperm
