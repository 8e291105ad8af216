// The gradient where points are masked (4.4), at a cost that does not grow with the runs: x lies
// in one run, and of the others only those are near enough to count that few sigma part from it.
// Elements that are not at home in the run of their point are sorted by region, so that what is
// near is the same for all that are done together.

#pragma once

#include <memory>

#include "categorical_choice.hpp"
#include "categorical_edges.hpp"
#include "categorical_home.hpp"
#include "categorical_scales.hpp"

namespace {

constexpr int64_t SORTED = PACKED;  // elements that are sorted together; they stay in the caches

// What is the same for all x between two neighbouring edges or takeovers.
template <typename T>
struct Region {
    int own = 0, chosen = 0;
    T z_own = 0, z_chosen = 0;
    std::vector<Edge<T>> edges;
};

template <typename T>
struct Regions {
    std::vector<T> bounds;  // ascending; of the region j that x lies in, j of them are below x
    std::vector<Region<T>> regions;

    size_t most_edges() const {
        size_t most = 0;
        for (const Region<T>& region : regions) {
            most = std::max(most, region.edges.size());
        }
        return most;
    }
};

template <typename T>
Regions<T> regions_of(const Runs& runs, const std::vector<Takeover>& takeovers) {
    std::vector<T> edges, changes;
    for (int j = 0; j <= runs.size(); j++) {
        edges.push_back(not_above<T>(runs.edge(j)));
    }
    for (size_t j = 1; j < takeovers.size(); j++) {
        changes.push_back(not_above<T>(takeovers[j].above));
    }
    Regions<T> found;
    std::merge(edges.begin(), edges.end(), changes.begin(), changes.end(),
               std::back_inserter(found.bounds));
    found.bounds.erase(std::unique(found.bounds.begin(), found.bounds.end()), found.bounds.end());
    for (size_t j = 0; j <= found.bounds.size(); j++) {
        const auto passed = [&](const std::vector<T>& places) {  // of those below x
            return int(j ? std::upper_bound(places.begin(), places.end(), found.bounds[j - 1]) -
                               places.begin()
                         : 0);
        };
        Region<T> region;
        region.own = passed(edges) - 1;
        region.chosen = int(takeovers[passed(changes)].run);
        region.z_own = T(runs.z_of(region.own));
        region.z_chosen = T(runs.z_of(region.chosen));
        add_edges(runs, region.own, -1, region.edges);
        add_edges(runs, region.own, +1, region.edges);
        found.regions.push_back(region);
    }
    found.bounds.resize((found.bounds.size() + 3) / 4 * 4, INFINITY);  // counted in fours
    return found;
}

// Elements of one region. All is relative to r of the chosen point, which never vanishes.
template <typename T>
void region_block(const T* x, const T* y, const T* G, T* dx, const int32_t* where, int64_t count,
                  const Scales<T>& k, const Region<T>& region, T* share, Totals& totals,
                  double* dz) {
    T at[BLOCK], distance[BLOCK], e[BLOCK], base[BLOCK], pi[BLOCK], t[BLOCK], s[BLOCK];
    T found[BLOCK], w[BLOCK], D[BLOCK], sum_T[BLOCK], sum_s[BLOCK], Gy[BLOCK];
    const T inverse_sigma = T(1) / k.sigma, least = T(std::exp(-LARGEST_EXPONENT));
    const int64_t full = (count + LANES - 1) / LANES * LANES;
    for (int64_t i = 0; i < count; i++) {
        at[i] = x[where[i]];
        w[i] = y[where[i]];
        Gy[i] = G[where[i]] * w[i];
    }
    for (int64_t i = count; i < full; i++) {
        at[i] = at[0];
        w[i] = w[0];
        Gy[i] = 0;
    }
    for (int64_t i = 0; i < full; i++) {
        at[i] = clamped(at[i], k.reach_low, k.reach_high);
        const T u = (w[i] - at[i]) * inverse_sigma;
        const Cell<T> cell(u, k);
        distance[i] = cell.distance;
        e[i] = cell.e;
        base[i] = T(1) / (cell.e < least ? least : cell.e);  // e^distance, cut as the others
        pi[i] = Gy[i] * cell.inverse * (k.two_sinh_h * region.z_chosen);
        t[i] = cell.t;
        s[i] = cell.s;
        D[i] = region.z_own * base[i];
        sum_T[i] = sum_s[i] = 0;
    }
    for (size_t j = 0; j < region.edges.size(); j++) {
        const Edge<T> edge = region.edges[j];
        const T signed_weight = edge.sign * edge.weight;
        T* behind = share + j * BLOCK;
        for (int64_t i = 0; i < full; i++) {
            const T gap = (edge.at - at[i]) * (edge.sign * inverse_sigma);
            T exponent = distance[i] - gap;
            exponent = exponent > T(LARGEST_EXPONENT) ? T(LARGEST_EXPONENT) : exponent;
            const T g = exponential(exponent);
            const T inverse = T(1) / (T(1) + g * e[i]);
            const T f = g * inverse;
            const T slope = f * inverse;
            behind[i] = f;
            D[i] += edge.weight * f;
            sum_T[i] += signed_weight * slope;  // far out exactly -D or D
            sum_s[i] += gap * edge.weight * slope;
        }
    }
    T x_dx = 0, dsigma = 0, sum_w = 0, sum_own = 0;
#pragma omp simd reduction(+ : x_dx, dsigma, sum_w, sum_own)
    for (int64_t i = 0; i < full; i++) {
        const T inverse_D = T(1) / D[i];
        w[i] = pi[i] * inverse_D;
        found[i] = w[i] * ((t[i] * D[i] - sum_T[i]) * inverse_D) * inverse_sigma;
        x_dx += found[i] * at[i];
        dsigma += w[i] * (s[i] - sum_s[i] * inverse_D) * inverse_sigma;
        sum_w += w[i];
        w[i] *= inverse_D;
        sum_own += w[i] * base[i];
    }
    for (int64_t i = 0; i < count; i++) {
        dx[where[i]] = found[i];
    }
    totals.x_dx += x_dx;
    totals.dsigma += dsigma;
    dz[region.chosen] += sum_w / region.z_chosen;
    dz[region.own] -= sum_own;
    for (size_t j = 0; j < region.edges.size(); j++) {
        const T* behind = share + j * BLOCK;
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < full; i++) {
            sum += w[i] * behind[i];
        }
        const Edge<T>& edge = region.edges[j];
        dz[edge.outer] -= sum;
        dz[edge.inner] += sum;
    }
}

// Room for one thread.
template <typename T>
struct Sorting {
    std::vector<int32_t> region, left, where, filled;
    std::vector<T> at, share;
    std::unique_ptr<Packed<T>> packed = std::make_unique<Packed<T>>();

    explicit Sorting(const Regions<T>& all)
        : region(SORTED), left(SORTED + LANES), where(all.regions.size() * SORTED),
          filled(all.regions.size()), at(SORTED), share(all.most_edges() * BLOCK) {}
};

// Which region each of the elements that are left lies in.
template <typename T>
void sort_left(const T* x, int32_t num_left, const Regions<T>& all, Sorting<T>& sorting) {
    const int32_t* left = sorting.left.data();
    T* at = sorting.at.data();
    for (int32_t i = 0; i < num_left; i++) {
        at[i] = x[left[i]];
    }
    int32_t* region = sorting.region.data();
    std::fill(region, region + num_left, 0);
    for (size_t j = 0; j < all.bounds.size(); j += 4) {
        const T* bound = all.bounds.data() + j;
        const T a = bound[0], b = bound[1], c = bound[2], d = bound[3];
        for (int32_t i = 0; i < num_left; i++) {
            region[i] += (at[i] > a) + (at[i] > b) + (at[i] > c) + (at[i] > d);
        }
    }
    std::fill(sorting.filled.begin(), sorting.filled.end(), 0);
    int32_t* filled = sorting.filled.data();
    int32_t* where = sorting.where.data();
    for (int32_t i = 0; i < num_left; i++) {
        where[region[i] * SORTED + filled[region[i]]++] = left[i];
    }
}

template <typename T>
void masked_part(const T* x, const T* y, const T* G, T* dx, int64_t count, const Scales<T>& k,
                 const Homes<T>& homes, const Regions<T>& all, Sorting<T>& sorting,
                 Totals& totals, double* dz) {
    const auto few_above = homes.num_below > 2 ? home_part<T, 3, 2> : home_part<T, 2, 2>;
    const auto many_above = homes.num_below > 2 ? home_part<T, 3, 3> : home_part<T, 2, 3>;
    const auto those_at_home = !homes.serves         ? no_home_part<T>
                               : homes.num_above > 2 ? many_above
                                                     : few_above;
    for (int64_t b = 0; b < count; b += SORTED) {
        const int64_t size = std::min(SORTED, count - b);
        const int32_t num_left = those_at_home(x + b, y + b, G + b, dx + b, size, k, homes,
                                               *sorting.packed, totals, dz, sorting.left.data());
        if (num_left == 0) {
            continue;
        }
        sort_left(x + b, num_left, all, sorting);
        for (size_t r = 0; r < all.regions.size(); r++) {
            const int32_t* where = sorting.where.data() + r * SORTED;
            for (int32_t i = 0; i < sorting.filled[r]; i += BLOCK) {
                const int32_t rest = sorting.filled[r] - i;
                region_block(x + b, y + b, G + b, dx + b, where + i, rest < BLOCK ? rest : BLOCK,
                             k, all.regions[r], sorting.share.data(), totals, dz);
            }
        }
    }
}

}  // namespace
