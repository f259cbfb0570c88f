// Linear assignment: shortest augmenting paths, exact.
//
// Every column has a price, and column j is worth x_ij - p_j to row i. At the end every row has a
// column that is worth most to it, which proves the assignment optimal. Jonker and Volgenant (1987):
// prices start at the columns' maxima; rows bid for columns, as in an auction; the few rows that are
// then left without one get theirs by exchanges along shortest paths.
//
// Prices only rise. So what was worth less than the best few columns of a row stays below that bound,
// and while the best of these few are above it, the others need not be looked at (long rows only).
//
// Columns that stay without a row must be the cheapest: where there are any, prices start at zero.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "arena.hpp"
#include "simd.hpp"

namespace softperm {

// m items and n positions, `stride` numbers from row to row; the scores of items without a position,
// or null: then as many pairs are made as there can be. Item i gets position perm[i], or -1.
struct Matrix {
    const void* x;
    int64_t m, n, stride;
    const void* unmatched;
    int64_t* perm;
};

#ifndef LISTED
#define LISTED 320
#endif
#ifndef COUNT
#define COUNTN(x,y)
#define COUNT(x)
#endif

template <class T> class Assignment {
    using V = Native<T>;
    using W = IntVec<V>;
    using D = Native<double>;
    using I = IntVec<D>;
    static constexpr int LT = LANES_OF<T>, L = LANES_OF<double>;
    static constexpr int GROUPS = 16 > LT ? std::min(16 / LT, 2) : 1; // of lanes: two columns of each are listed
    static constexpr int LIST = 2 * GROUPS * LT;
    static constexpr int64_t ALONE = -1;
    static constexpr double INFINITE = std::numeric_limits<double>::infinity();
    static constexpr T LOWEST = -std::numeric_limits<T>::infinity();

    struct Entry {
        T x, worth; // worth: when listed, rounded up
        int32_t column;
    };
    struct Offer {
        double top, next;
        int64_t column;
    };
    Arena& arena;
    const int64_t m, n;
    const bool listed;
    const T* x;
    int64_t stride, whole; // columns in whole vectors; the others, padded with -inf, are in `tails`
    const T* tails;
    const double* alone;
    int64_t *perm, *owner;
    double *price, *shut, *distance, *lengths;
    int64_t *before, *settled, *now, *later;
    T* lower; // price, rounded down
    Entry* lists;
    int32_t* listed_count; // -1: not listed yet
    int64_t* listed_at;    // the number of augmentations before
    int64_t augmented = 1;
    double *bounds, *offsets;
    double *open, *unlisted; // the length of columns reached but not settled; of the nearest unlisted of a row

    template <class F> INLINE void each(int64_t i, int step, F visit) const {
        const T* row = x + i * stride;
        for (int64_t at = 0; at < whole; at += step) visit(at, row + at);
        const T* tail = tails + i * LT - whole;
        for (int64_t at = whole; at < n; at += step) visit(at, tail + at);
    }
    template <class F> INLINE void each_worth(int64_t i, const double* p, F visit) const {
        each(i, L, [&](int64_t at, const T* from) {
            visit(at, convert<double>(load<Vec<T, L>>(from)) - load<D>(p + at));
        });
    }
    template <class A> static INLINE A lanes() {
        A v;
        for (int k = 0; k < SIZE<A>; ++k) v[k] = k;
        return v;
    }

    static INLINE bool any(I mask) {
        int64_t one = 0;
        for (int k = 0; k < L; ++k) one |= mask[k];
        return one;
    }

    // Leave in every lane the best two of all lanes, and where the best is.
    template <int D2 = 1> static INLINE void join(D& best, D& second, I& where) {
        if constexpr (D2 < L) {
            D b = pick<D2, true>(best, best), s = pick<D2, true>(second, second);
            I w = pick<D2, true>(where, where);
            second = maximum(minimum(best, b), maximum(second, s));
            where = b > best ? w : where;
            best = maximum(best, b);
            join<2 * D2>(best, second, where);
        }
    }
    Offer best_of_all(int64_t i) const {
        COUNT(0);
        D best = splat<D>(-INFINITE), second = best;
        I where{}, here = lanes<I>();
        each_worth(i, price, [&](int64_t, D worth) {
            second = maximum(second, minimum(worth, best));
            where = worth > best ? here : where;
            best = maximum(worth, best);
            here += L;
        });
        join(best, second, where);
        return {best[0], second[0], where[0]};
    }

    // List the columns that are worth most to row i: two of every lane, if above the third.
    void list(int64_t i) {
        COUNT(1);
        V best[GROUPS], second[GROUPS], third[GROUPS];
        W first_at[GROUPS], second_at[GROUPS];
        for (int g = 0; g < GROUPS; ++g) {
            best[g] = second[g] = third[g] = splat<V>(LOWEST);
            first_at[g] = second_at[g] = W{};
        }
        auto visit = [&](int g, int64_t at, const T* from) {
            V worth = load<V>(from) - load<V>(lower + at);
            W is = W{} + Element<W>(at), over = worth > second[g], top = worth > best[g];
            third[g] = maximum(third[g], over ? second[g] : worth);
            second_at[g] = top ? first_at[g] : over ? is : second_at[g];
            second[g] = top ? best[g] : maximum(worth, second[g]);
            first_at[g] = top ? is : first_at[g];
            best[g] = maximum(worth, best[g]);
        };
        const T* row = x + i * stride;
        int64_t at = 0;
        for (; at + GROUPS * LT <= whole; at += GROUPS * LT)
            for (int g = 0; g < GROUPS; ++g) visit(g, at + g * LT, row + at + g * LT);
        for (; at < whole; at += LT) visit(0, at, row + at);
        if (at < n) visit(1 % GROUPS, at, tails + i * LT);
        V all = third[0];
        for (int g = 1; g < GROUPS; ++g) all = maximum(all, third[g]);
        const T bound = largest(all);
        T worths[LIST + LT];
        int32_t columns[LIST + LT], count = 0;
        auto keep = [&](V worth, W at) {
            for (int k = 0; k < LT; ++k) {
                worths[count] = worth[k];
                columns[count] = int32_t(at[k] + k);
                count += worth[k] >= bound && worth[k] > LOWEST;
            }
        };
        for (int g = 0; g < GROUPS; ++g) {
            keep(best[g], first_at[g]);
            keep(second[g], second_at[g]);
        }
        COUNTN(11, count);
        sort(i, worths, columns, count);
        bounds[i] = rounded_up(bound);
    }
    // Write the list of row i, the highest worth first.
    void sort(int64_t i, T* worths, const int32_t* columns, int32_t count) {
        Entry* entries = lists + i * LIST;
        listed_count[i] = count;
        listed_at[i] = augmented;
        store(worths + count, splat<V>(LOWEST));
        for (int32_t at = 0; at < count; at += LT) {
            const V mine = load<V>(worths + at);
            W rank{}, place = lanes<W>() + at;
            for (int32_t k = 0; k < count; ++k) {
                const V other = splat<V>(worths[k]);
                rank -= (other > mine) | ((other == mine) & (place > k));
            }
            for (int k = 0; k < LT && at + k < count; ++k) {
                const int32_t j = columns[at + k];
                entries[rank[k]] = {x_at(i, j), rounded_up(mine[k]), j};
            }
        }
    }
    // No less than the difference that was rounded to `worth`, or was too low for float32.
    static T rounded_up(T worth) {
        if constexpr (sizeof(T) == 8) return worth;
        worth = std::max(worth, -std::numeric_limits<T>::max());
        return worth + std::abs(worth) * T(0x1p-22);
    }
    T x_at(int64_t i, int64_t j) const { return j < whole ? x[i * stride + j] : tails[i * LT + j - whole]; }

    Offer best_of_list(int64_t i) const {
        Offer offer{-INFINITE, -INFINITE, 0};
        const Entry* entries = lists + i * LIST;
        for (int32_t k = 0; k < listed_count[i]; ++k) {
            if (entries[k].worth <= offer.next) return offer;
            const double worth = double(entries[k].x) - price[entries[k].column];
            offer.next = std::max(offer.next, std::min(worth, offer.top));
            offer.column = worth > offer.top ? entries[k].column : offer.column;
            offer.top = std::max(worth, offer.top);
        }
        return offer;
    }
    Offer best_of_columns(int64_t i) {
        if (!listed) return best_of_all(i);
        COUNT(2);
        for (int attempt = 0; attempt < 2; ++attempt) {
            if (attempt || listed_count[i] < 0) list(i);
            const Offer offer = best_of_list(i);
            if (offer.next >= bounds[i]) return offer;
        }
        return best_of_all(i);
    }
    // What is worth most to row i, that worth, and the next best.
    Offer best(int64_t i) {
        Offer offer = best_of_columns(i);
        if (!alone) return offer;
        if (alone[i] >= offer.top && alone[i] > -INFINITE) return {alone[i], offer.top, ALONE};
        offer.next = std::max(offer.next, alone[i]);
        return offer;
    }

    void raise(int64_t j, double amount) {
        price[j] += amount;
        if constexpr (sizeof(T) == 4) {
            if (!listed) return;
            const T near = std::min(T(price[j]), std::numeric_limits<T>::max());
            lower[j] = near - (std::abs(near) * T(0x1p-23) + std::numeric_limits<T>::min());
        }
    }
    // Give column j to row i; the row that had it, or -1.
    int64_t give(int64_t i, int64_t j) {
        perm[i] = j;
        if (j == ALONE) return -1;
        const int64_t loser = owner[j];
        owner[j] = i;
        return loser;
    }

    // A column without a row that is worth `top` to row i, or -1.
    int64_t vacant(int64_t i, double top) const {
        COUNT(3);
        I found = I{} - 1;
        each_worth(i, price, [&](int64_t at, D worth) {
            found = (worth >= top) & (load<I>(owner + at) < 0) ? lanes<I>() + at : found;
        });
        return largest(found);
    }
    int64_t vacant_at(double nearest) const {
        COUNT(4);
        I found = I{} - 1;
        for (int64_t at = 0; at < n; at += L)
            found = (load<D>(distance + at) <= nearest) & (load<I>(owner + at) < 0) ? lanes<I>() + at : found;
        return largest(found);
    }

    // Prices at the columns' maxima, and rows with one of the columns whose maximum they hold. The
    // number of rows left, in `now`; -1 if a column is forbidden altogether.
    int64_t start() {
        std::fill_n(lower, n, LOWEST);
        W* rows = arena.take<W>(padded(n) / LT);
        for (int64_t i = 0; i < m; ++i)
            each(i, LT, [&](int64_t at, const T* from) {
                V value = load<V>(from), top = load<V>(lower + at);
                rows[at / LT] = value > top ? W{} + Element<W>(i) : rows[at / LT];
                store(lower + at, maximum(value, top));
            });
        int64_t* held = later;
        std::fill_n(held, m, 0);
        for (int64_t j = 0; j < n; ++j) {
            if (lower[j] == LOWEST) return -1;
            price[j] = lower[j];
            const int64_t i = rows[j / LT][j % LT];
            if (!held[i]++) give(i, j);
        }
        int64_t left = 0;
        for (int64_t i = 0; i < m; ++i)
            if (!held[i]) now[left++] = i;
        for (int64_t i = 0; i < m && left; ++i) {
            if (held[i] != 1) continue;
            // Worth nothing at the maximum; its price may rise until the next best is worth as much.
            const Offer offer = best(i);
            if (offer.column == perm[i] && offer.next > -INFINITE) raise(offer.column, offer.top - offer.next);
        }
        return left;
    }

    // Bids by the `left` rows in list `now`; the number of rows left free, in list `later`.
    int64_t bid(int64_t left) {
        int64_t bids = (listed ? 8 : 1) * m, kept = 0;
        for (int64_t k = 0; k < left;) {
            const int64_t i = now[k++];
            Offer offer{0, -INFINITE, 0};
            if (bids-- > 0) offer = best(i);
            if (offer.column == ALONE || (offer.next > -INFINITE && offer.top > offer.next)) {
                if (offer.column != ALONE) raise(offer.column, offer.top - offer.next);
                const int64_t loser = give(i, offer.column);
                if (loser >= 0) now[--k] = loser;
                continue;
            }
            // No bids left, no limit to what a row with one column bids, or no gain in bidding.
            const int64_t j = offer.next > -INFINITE ? vacant(i, offer.top) : -1;
            if (j >= 0) give(i, j);
            else later[kept++] = i;
        }
        return kept;
    }

    // Shorten paths by way of row i; the nearest column with an open path, and its distance.
    Offer relax(int64_t i, double offset) {
        COUNT(5);
        D nearest = splat<D>(INFINITE);
        I where{}, here = lanes<I>();
        each_worth(i, shut, [&](int64_t at, D worth) {
            D by_row = offset - worth, known = load<D>(distance + at);
            store(before + at, by_row < known ? I{} + i : load<I>(before + at));
            known = minimum(by_row, known);
            store(distance + at, known);
            where = known < nearest ? here : where;
            nearest = minimum(known, nearest);
            here += L;
        });
        D low = -nearest, second = splat<D>(-INFINITE);
        join(low, second, where);
        return {-low[0], 0, where[0]};
    }

    // Assign row `first` along a shortest path of exchanges; false if there is none.
    bool augment(int64_t first) {
        COUNT(6);
        std::fill_n(distance, n, INFINITE);
        std::copy_n(price, n, shut);
        int64_t count = 0, i = first, j, lonely = -1;
        double offset = 0, length = -INFINITE, shortest = INFINITE;
        for (;;) {
            if (alone && offset - alone[i] < shortest) shortest = offset - alone[i], lonely = i;
            const Offer near = relax(i, offset);
            const bool stalled = near.top <= length;
            length = near.top;
            if (lonely >= 0 && shortest <= length) {
                j = ALONE, length = shortest;
                break;
            }
            if (length == INFINITE) return false;
            j = near.column;
            if (owner[j] >= 0 && stalled) {
                const int64_t free = vacant_at(length);
                if (free >= 0) j = free;
            }
            if (owner[j] < 0) break;
            settled[count] = j;
            lengths[count++] = length;
            i = owner[j];
            offset = length + (x_at(i, j) - price[j]);
            shut[j] = distance[j] = INFINITE;
        }
        finish(first, lonely, j, count, length);
        return true;
    }
    void finish(int64_t first, int64_t lonely, int64_t end, int64_t count, double length) {
        for (int64_t k = 0; k < count; ++k) raise(settled[k], length - lengths[k]);
        int64_t i = first, j = end;
        if (end == ALONE) {
            i = lonely;
            std::swap(j, perm[i]);
            if (i == first) return;
        }
        do {
            i = before[j];
            owner[j] = i;
            std::swap(j, perm[i]);
        } while (i != first);
    }

    // The least of so many numbers, and where it is.
    static Offer least(const double* from, int64_t count) {
        D low = splat<D>(-INFINITE), second = low;
        I where{}, here = lanes<I>();
        for (int64_t at = 0; at < count; at += L) {
            const D v = -load<D>(from + at);
            where = v > low ? here : where;
            low = maximum(v, low);
            here += L;
        }
        join(low, second, where);
        return {-low[0], 0, where[0]};
    }

    // The same for long rows. The columns of a row that are not on its list are looked at only when
    // they may be the nearest.
    enum Outcome { DONE, NONE, TOO_LONG };
    Outcome augment_listed(int64_t first) {
        COUNT(7);
        std::fill_n(distance, n, INFINITE);
        std::fill_n(open, padded(n), INFINITE);
        std::fill_n(unlisted, padded(m), INFINITE);
        int64_t count = 0, next = 0, end = ALONE, lonely = -1, looked = 0;
        double level = -INFINITE, shortest = INFINITE, unlisted_least = INFINITE;
        auto settle = [&](int64_t j, double length) {
            settled[count] = j;
            lengths[count++] = length;
            open[j] = INFINITE;
            distance[j] = -INFINITE;
        };
        auto reach = [&](int64_t i, int64_t j, double length) {
            if (length >= distance[j] || length >= shortest) return;
            distance[j] = length;
            before[j] = i;
            if (owner[j] < 0) shortest = length, end = j, lonely = -1;
            else if (length <= level) settle(j, length);
            else open[j] = length;
        };
        auto expand = [&](int64_t i, double offset) {
            COUNT(8);
            offsets[i] = offset;
            if (alone && offset - alone[i] < shortest) shortest = offset - alone[i], end = ALONE, lonely = i;
            if (listed_count[i] < 0) list(i);
            const Entry* entries = lists + i * LIST;
            const int32_t count = listed_count[i];
            for (int32_t k = 0; k < count && offset - entries[k].worth < shortest; ++k)
                reach(i, entries[k].column, offset - (double(entries[k].x) - price[entries[k].column]));
            unlisted[i] = offset - bounds[i];
            unlisted_least = std::min(unlisted_least, unlisted[i]);
        };
        auto expand_all = [&](int64_t i) {
            COUNT(9);
            const double offset = offsets[i];
            each_worth(i, price, [&](int64_t at, D worth) {
                const D length = offset - worth;
                if (!any((length < load<D>(distance + at)) & (length < shortest))) return;
                for (int k = 0; k < L; ++k) reach(i, at + k, length[k]);
            });
        };
        auto look = [&]() {
            const int64_t i = least(unlisted, m).column;
            unlisted[i] = INFINITE;
            if (listed_at[i] < augmented) list(i), expand(i, offsets[i]);
            else expand_all(i);
            unlisted_least = least(unlisted, m).top;
        };
        expand(first, 0);
        while (shortest > level) {
            if (next < count) {
                const int64_t j = settled[next], i = owner[j];
                expand(i, lengths[next++] + (x_at(i, j) - price[j]));
                continue;
            }
            const Offer near = least(open, n);
            level = std::min(near.top, unlisted_least);
            if (level >= shortest) break;
            if (near.top <= unlisted_least) settle(near.column, level);
            else if (++looked > 64 + count / 2) return TOO_LONG;
            else look();
        }
        if (shortest == INFINITE) return NONE;
        finish(first, lonely, end, count, shortest);
        ++augmented;
        return DONE;
    }

    static int64_t padded(int64_t count) { return (count + LT - 1) / LT * LT; }
    static V part(const T* from, int64_t count, bool readable) {
        if (!readable) return load_first<V>(from, count, LOWEST);
        return lanes<W>() < Element<W>(count) ? load<V>(from) : splat<V>(LOWEST);
    }
    // Up to a vector of row i from column `at` on, then -inf.
    static V part(const Matrix& a, int64_t i, int64_t at) {
        const T* row = static_cast<const T*>(a.x) + i * a.stride;
        if (at + LT <= a.n) return load<V>(row + at);
        return part(row + at, a.n - at, i * a.stride + at + LT <= (a.m - 1) * a.stride + a.n);
    }

    void take_scores(const Matrix& a, bool turned, T scale) {
        if (!turned && scale == 1 && n > 64) {
            x = static_cast<const T*>(a.x);
            stride = a.stride;
            whole = n / LT * LT;
            T* to = arena.take<T>(m * LT);
            tails = to;
            for (int64_t i = 0; i < m && whole < n; ++i) store(to + i * LT, part(a, i, whole));
            return;
        }
        T* to = arena.take<T>((m + LT) * padded(n));
        x = tails = to;
        stride = whole = padded(n);
        if (!turned) {
            for (int64_t i = 0; i < m; ++i)
                for (int64_t at = 0; at < n; at += LT) store(to + i * stride + at, part(a, i, at) * scale);
            return;
        }
        for (int64_t at = 0; at < n; at += LT)
            for (int64_t j = 0; j < m; j += LT) {
                V v[LT];
                for (int k = 0; k < LT; ++k) v[k] = at + k < n ? part(a, at + k, j) * scale : splat<V>(LOWEST);
                transpose(v);
                for (int k = 0; k < LT; ++k) store(to + (j + k) * stride + at, v[k]);
            }
    }
    void take_arrays() {
        const int64_t width = padded(n);
        perm = arena.take<int64_t>(m);
        now = arena.take<int64_t>(m);
        later = arena.take<int64_t>(m);
        owner = arena.take<int64_t>(width);
        before = arena.take<int64_t>(width);
        settled = arena.take<int64_t>(width);
        price = arena.take<double>(width);
        shut = arena.take<double>(width);
        distance = arena.take<double>(width);
        lengths = arena.take<double>(width);
        lower = sizeof(T) == 4 ? arena.take<T>(width) : reinterpret_cast<T*>(price);
        std::fill_n(perm, m, ALONE);
        std::fill_n(owner, width, -1);
        std::fill_n(price, width, 0.0);
        std::fill_n(shut, width, 0.0);
        std::fill_n(distance, width, INFINITE);
        std::fill_n(lower, width, T(0));
        if (!listed) return;
        lists = arena.take<Entry>(m * LIST);
        listed_count = arena.take<int32_t>(m);
        bounds = arena.take<double>(m);
        offsets = arena.take<double>(m);
        listed_at = arena.take<int64_t>(m);
        open = arena.take<double>(padded(n));
        unlisted = arena.take<double>(padded(m));
        std::fill_n(listed_count, m, -1);
    }

public:
    Assignment(const Matrix& a, bool turned, T scale, const double* alone, Arena& arena)
        : arena(arena), m(turned ? a.n : a.m), n(turned ? a.m : a.n), listed(std::min(m, n) > LISTED), alone(alone) {
        take_scores(a, turned, scale);
        take_arrays();
    }

    // The column of every row, or null where -inf forbids that all rows have one.
    const int64_t* solve() {
        int64_t left = m;
        if (m == n && !alone) left = start();
        else
            for (int64_t i = 0; i < m; ++i) now[i] = i;
        if (left < 0) return nullptr;
        left = bid(left);
        int failures = listed ? 0 : 3;
        for (int64_t k = 0; k < left; ++k) {
            Outcome outcome = failures < 3 ? augment_listed(later[k]) : TOO_LONG;
            failures += outcome == TOO_LONG;
            if (outcome == TOO_LONG) outcome = augment(later[k]) ? DONE : NONE;
            if (outcome == NONE) return nullptr;
        }
        return perm;
    }
};

// A power of two that keeps sums of 2 (m + n) scores finite.
template <class T> T safe_scale(const Matrix& a) {
    if constexpr (sizeof(T) == 4) return 1;
    T big = 0;
    auto look = [&](const T* row, int64_t n) {
        for (int64_t j = 0; j < n; ++j) {
            const T size = std::abs(row[j]);
            big = size > big && size <= std::numeric_limits<T>::max() ? size : big;
        }
    };
    for (int64_t i = 0; i < a.m; ++i) look(static_cast<const T*>(a.x) + i * a.stride, a.n);
    if (a.unmatched) look(static_cast<const T*>(a.unmatched), a.m);
    return big > T(0x1p960) ? T(0x1p-63) : T(1);
}

// Write the assignment of maximal sum; false where -inf forbids as many pairs as there must be.
template <class T> bool assign(const Matrix& a, Arena& arena) {
    arena.reset(0);
    const T scale = safe_scale<T>(a);
    const bool turned = a.m > a.n && !a.unmatched;
    double* alone = nullptr;
    if (a.unmatched) {
        alone = arena.take<double>(a.m);
        for (int64_t i = 0; i < a.m; ++i) alone[i] = double(static_cast<const T*>(a.unmatched)[i]) * scale;
    }
    Assignment<T> assignment(a, turned, scale, alone, arena);
    const int64_t* perm = assignment.solve();
    if (perm && !turned) std::copy_n(perm, a.m, a.perm);
    if (perm && turned) {
        std::fill_n(a.perm, a.m, -1);
        for (int64_t j = 0; j < a.n; ++j) a.perm[perm[j]] = j;
    }
    arena.reset(0);
    return perm;
}

} // namespace softperm
