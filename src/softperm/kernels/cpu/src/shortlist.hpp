// The few columns that are worth most to a row, and a bound on what any other is worth.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "matrix.hpp"
#include "simd.hpp"

namespace softperm {

// The best two numbers of every lane, and where the best is.
template <class V> struct BestTwo {
    V best = splat<V>(FORBIDDEN<Element<V>>), second = best;
    IntVec<V> where{};

    INLINE void add(V value, IntVec<V> at) {
        second = maximum(second, minimum(value, best));
        where = value > best ? at : where;
        best = maximum(value, best);
    }
    INLINE void add(V value, V next, IntVec<V> at) {
        add(value, at);
        second = maximum(second, next);
    }
    template <int D = 1> INLINE void add_lanes() {
        if constexpr (D < SIZE<V>) {
            add(pick<D, true>(best, best), pick<D, true>(second, second), pick<D, true>(where, where));
            add_lanes<2 * D>();
        }
    }
};

// What is worth most, that worth, and the next best.
struct Offer {
    double top, next;
    int64_t column;
};
// Of `count` numbers, which `values` gives a vector at a time. CHAINS of them take turns: a maximum waits
// for the one before.
template <class V, int CHAINS = 2, class F> INLINE Offer best_of(int64_t count, F values) {
    constexpr int n = SIZE<V>;
    BestTwo<V> b[CHAINS];
    IntVec<V> here = lanes<IntVec<V>>();
    int64_t at = 0;
    for (; at + (CHAINS - 1) * n < count; at += CHAINS * n)
        for (int k = 0; k < CHAINS; ++k, here += n) b[k].add(values(at + k * n), here);
    for (; at < count; at += n, here += n) b[0].add(values(at), here);
    for (int k = 1; k < CHAINS; ++k) b[0].add(b[k].best, b[k].second, b[k].where);
    b[0].add_lanes();
    return {b[0].best[0], b[0].second[0], b[0].where[0]};
}

template <class T> struct Shortlist {
    using V = Native<T>;
    using W = IntVec<V>;
    static constexpr int LANES = SIZE<V>, GROUPS = LANES < 16 ? 2 : 1; // groups: independent chains
    struct Entry {
        T x;
        int32_t column;
    };
    double bound, distance; // distance: of the row, in a search for paths
    int64_t count, made;    // made: before which augmentation, 0 for never
    Entry entries[2 * GROUPS * LANES];

    // Two columns of every lane, where they are above the third. No column costs less than its `price`.
    void make(const T* row, const T* price, int64_t width, int64_t now) {
        V best[GROUPS], second[GROUPS], third = splat<V>(FORBIDDEN<T>);
        W best_at[GROUPS]{}, second_at[GROUPS]{}, here = lanes<W>();
        for (int g = 0; g < GROUPS; ++g) best[g] = second[g] = third;
        for (int64_t at = 0; at < width; at += GROUPS * LANES)
            for (int g = 0; g < GROUPS && at + g * LANES < width; ++g, here += LANES) {
                const V worth = load<V>(row + at + g * LANES) - load<V>(price + at + g * LANES);
                const W top = worth > best[g], over = worth > second[g];
                third = maximum(third, minimum(worth, second[g]));
                second_at[g] = top ? best_at[g] : over ? here : second_at[g];
                second[g] = top ? best[g] : maximum(worth, second[g]);
                best_at[g] = top ? here : best_at[g];
                best[g] = maximum(worth, best[g]);
            }
        const T limit = largest(third);
        count = 0;
        auto keep = [&](V worth, W column) {
            for (int k = 0; k < LANES; ++k) {
                entries[count] = {row[column[k]], int32_t(column[k])};
                count += worth[k] >= limit && worth[k] > FORBIDDEN<T>;
            }
        };
        for (int g = 0; g < GROUPS; ++g) keep(best[g], best_at[g]), keep(second[g], second_at[g]);
        made = now;
        bound = limit;
        if (sizeof(T) == 4) // differences in float32 are rounded, and may overflow
            bound = limit < -HIGHEST<T> ? -HIGHEST<T> : bound + std::abs(bound) * 0x1p-23;
    }
    Offer best(const double* price) const {
        Offer offer{-INFINITY, -INFINITY, 0};
        for (const Entry* e = entries; e < entries + count; ++e) {
            const double worth = double(e->x) - price[e->column];
            offer.next = std::max(offer.next, std::min(worth, offer.top));
            offer.column = worth > offer.top ? e->column : offer.column;
            offer.top = std::max(worth, offer.top);
        }
        return offer;
    }
};

} // namespace softperm
